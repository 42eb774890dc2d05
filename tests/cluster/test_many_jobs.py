"""A sweep of many small jobs over Ray: its processes, files and requests, and its page in MLflow."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run
from sqlalchemy import create_engine, text

from benchmarks.growth import jobs_words
from benchmarks.sweep import checkout, measure_sweep
from tests.browser import chromium_page
from tests.postgres import cluster
from tests.servers import serving
from twinnet.tracking.store import PARENT, connect, with_driver
from twinnet.tracking.sweeps import KEY

JOBS = int(os.environ.get("CLUSTER_JOBS", "200"))
LEADER_MB = 300 + JOBS / 4
USE = "SELECT xact_commit, pg_database_size(datname) FROM pg_stat_database WHERE datname = current_database()"
TEN_JOBS = "[...document.querySelectorAll('a')].filter(link => /^seed=/.test(link.textContent)).length >= 10"


@pytest.mark.timeout(3600)
def test_many_jobs_over_ray(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    """A sweep of many small jobs over Ray, tracked by a server on PostgreSQL, and its page in Chromium"""
    with cluster() as database, checkout() as folder:
        monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", database)
        engine = create_engine(with_driver(database), isolation_level="AUTOCOMMIT")
        with serving(tmp_path, ["twinnet.tracking", "server"]) as address:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            with engine.connect() as connection:
                before = connection.execute(text(USE)).one()
            seconds, used = measure_sweep(folder, *jobs_words(JOBS, "ray"))
            time.sleep(2)  # PostgreSQL counts a second later
            with engine.connect() as connection:
                after = connection.execute(text(USE)).one()
            requests = (tmp_path / "server.log").read_text().count("HTTP/1.1")
            (parent,) = connect(address).search(f"tags.jobs = '{JOBS}'")
            children = list(connect(address).search(f"tags.`{PARENT}` = '{parent.info.run_id}'"))
            assert parent.info.status == "FINISHED"
            assert {run.info.status for run in children} == {"FINISHED"}
            assert len({run.data.tags[KEY] for run in children}) == len(children) == JOBS
            (summary,) = folder.glob("outputs/sweeps/*/summary.csv")
            assert len(pd.read_csv(summary)) == JOBS
            assert used["leader, peak MB"] < LEADER_MB
            page_seconds, runs_seconds = open_pages(address, parent, root / "build" / "screenshots")
        engine.dispose()
    transactions, size = (end - start for start, end in zip(before, after, strict=True))
    tried(
        f"{JOBS} jobs in {seconds:.0f} s; peak of the leader {used['leader, peak MB']:.0f} MB; a job: "
        f"{requests / JOBS:.1f} requests, {transactions / JOBS:.1f} transactions, {size / JOBS / 1e3:.1f} kB of "
        f"database, {used['files in outputs/'] / JOBS:.1f} files; the sweep's page opens in {page_seconds:.1f} s, "
        f"the list of runs in {runs_seconds:.1f} s"
    )


def open_pages(address: str, parent: Run, screenshots: Path) -> list[float]:
    """Open the page of the sweep's run, until ten jobs show, and the list of runs; return the seconds of each."""
    screenshots.mkdir(parents=True, exist_ok=True)
    runs = f"{address}/#/experiments/{parent.info.experiment_id}/runs"
    listed = f"[...document.querySelectorAll('.ag-row a')].some(link => link.textContent == '{parent.info.run_name}')"
    seconds = []
    with chromium_page() as page:
        for name, target, shown in (("sweep", f"{runs}/{parent.info.run_id}", TEN_JOBS), ("runs", runs, listed)):
            start = time.monotonic()
            page.goto("about:blank")
            page.goto(target)
            page.wait_for_function(shown)
            seconds.append(time.monotonic() - start)
            page.wait_for_timeout(1000)  # for what follows the links
            page.screenshot(path=screenshots / f"{name}_of_{JOBS}_jobs.png")
    return seconds
