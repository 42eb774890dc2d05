"""The runs of the store as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twinnet.core.schema import Tracking
from twinnet.tracking.store import open_store

COLUMNS = (
    "run_id", "experiment", "dataset", "configuration", "seed", "engine", "device", "data_source", "data_digest",
    "overrides", "settings", "status",
)  # fmt: skip


def runs_table(
    settings: Tracking | None = None,
    *,
    root: Path | None = None,
    datasets: Sequence[str] | None = None,
    status: str | None = "FINISHED",
) -> pd.DataFrame:
    """One row for each run of the store: COLUMNS, `started` (UTC), then the final metrics under their flat keys.

    `configuration` is the hash of the configuration without the seed, so that seeds can be averaged over it; `status`
    None keeps failed, killed and running ones too. Raises StoreError where the store does not answer.
    """
    with open_store(settings or Tracking(), root) as store:
        experiments = {
            found.experiment_id: found.name
            for found in store.client.search_experiments()
            if datasets is None or found.name in datasets
        }
        condition = "tags.`twinnet.configuration` != ''" + (f" AND attributes.status = '{status}'" if status else "")
        rows = [_row(run, experiments) for run in store.search(condition, list(experiments))]
    table = pd.DataFrame(rows, columns=None if rows else [*COLUMNS, "started"])
    return table.sort_values(["dataset", "started"], ignore_index=True) if rows else table


def _row(run: Any, experiments: dict[str, str]) -> dict[str, Any]:
    tags = run.data.tags
    return {
        "run_id": run.info.run_id,
        "experiment": tags.get("experiment") or tags.get("mlflow.runName", ""),
        "dataset": experiments[run.info.experiment_id],
        "configuration": tags["twinnet.configuration"],
        "seed": int(tags["seed"]),
        "engine": tags.get("engine", ""),
        "device": tags.get("device", ""),
        "data_source": tags.get("data_source", ""),
        "data_digest": run.inputs.dataset_inputs[0].dataset.digest if run.inputs.dataset_inputs else "",
        "overrides": tags.get("overrides", ""),
        "settings": dict(run.data.params),
        "status": run.info.status,
        "started": pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
        **run.data.metrics,
    }
