"""Runs of the store: as a table, and the best one in MLflow's registry."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from twinnet.core.errors import ConfigError
from twinnet.core.schema import Tracking
from twinnet.tracking.curves import final_metrics
from twinnet.tracking.live import call_follower
from twinnet.tracking.store import CONFIGURATION, RESULT, Store

COLUMNS = (
    "run_id", "experiment", "dataset", "configuration", "seed", "engine", "device", "data_source", "data_digest",
    "overrides", "settings", "status", "started",
)  # fmt: skip
SCORES = ("test/accuracy", "valid/accuracy", "test/mae", "valid/mae")  # the first that runs have chooses the best one
ALIAS = "best"


def runs_table(
    settings: Tracking | None = None,
    *,
    root: Path | None = None,
    datasets: Sequence[str] | None = None,
    status: str | None = "FINISHED",
) -> pd.DataFrame:
    """Return one row for each run of the store: COLUMNS, then the final metrics under their flat keys.

    `configuration` is the hash of the configuration without the seed, over which seeds are averaged; `started` is
    in UTC; `status` None keeps failed, killed and running ones too. Raises StoreError if the store does not answer.
    """
    runs = call_follower(_search, settings or Tracking(), root, status=status)
    table = pd.DataFrame(runs, columns=[*COLUMNS, "metrics"])
    table = table.join(pd.DataFrame(table.pop("metrics").tolist(), index=table.index))
    table["started"] = pd.to_datetime(table["started"], unit="ms", utc=True)
    if datasets is not None:
        table = table[table["dataset"].isin(datasets)]
    return table.sort_values(["dataset", "started"], ignore_index=True)


def _search(store: Store, status: str | None) -> list[dict[str, Any]]:
    condition = f"tags.`{CONFIGURATION}` != ''" + (f" AND attributes.status = '{status}'" if status else "")
    rows = []
    for run in store.search(condition):
        info, tags, params = run.info, run.data.tags, run.data.params
        row = {name: tags.get(name, "") for name in COLUMNS} | {"run_id": info.run_id, "status": info.status}
        row |= {"dataset": params.get("data.name", ""), "configuration": tags[CONFIGURATION]}
        row |= {"seed": int(tags["seed"]), "started": info.start_time, "settings": params}
        rows.append(row | {"metrics": final_metrics(run.data.metrics)})
    return rows


def promote(name: str, root: Path | None = None) -> str:
    """Register the model of the best run of an MLflow experiment, under its name and the alias `best`; return one line.

    The runs on the data of the latest one count: the most accurate (the least mae) on test images, else on validation.
    Raises ConfigError if there is no such run, StoreError if the store does not answer.
    """
    return call_follower(_promote, Tracking(), root, name=name)


def _promote(store: Store, name: str) -> str:
    from mlflow.exceptions import MlflowException  # imported already

    client, names = store.client, {found.name: found.experiment_id for found in store.client.search_experiments()}
    condition = f"attributes.status = 'FINISHED' AND tags.`{RESULT}` LIKE '%'"
    runs: list[Any] = list(store.search(condition, [names[name]])) if name in names else []
    runs = [run for run in runs if run.outputs and _digest(run) == _digest(runs[-1])]
    scores = [final_metrics(run.data.metrics) for run in runs]
    key = next((key for key in SCORES if any(key in metrics for metrics in scores)), "")
    if not key:
        known = ", ".join(sorted(names.keys() - {"Default"}))  # MLflow's own experiment, which is empty
        raise ConfigError(
            f"promote: expected a data set with finished runs ({known or 'there are none'}); received {name}"
        )
    sign = -1 if key.endswith("/mae") else 1
    score, best = max(
        ((metrics[key], run) for metrics, run in zip(scores, runs, strict=True) if key in metrics),
        key=lambda pair: sign * pair[0],
    )
    run_id, model_id = best.info.run_id, best.outputs.model_outputs[0].model_id
    with suppress(MlflowException):  # it is registered already
        client.create_registered_model(name)
    versions = {version.run_id: version for version in client.search_model_versions(f"name = '{name}'")}
    version = versions.get(run_id) or client.create_model_version(
        name, client.get_logged_model(model_id).artifact_location, run_id, model_id=model_id
    )
    client.set_registered_model_alias(name, ALIAS, version.version)
    return (
        f"models:/{name}@{ALIAS} is version {version.version}: {best.info.run_name} (run {run_id}), {key} {score:.4f}, "
        f"the best of {len(runs)} on data from {best.data.tags.get('data_source', '?')}"
    )


def _digest(run: Any) -> str:
    return str(run.data.tags.get("data_digest"))
