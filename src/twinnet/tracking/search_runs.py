"""The runs of the store as a table."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from twinnet.core.schema import Tracking
from twinnet.tracking.live import call_follower
from twinnet.tracking.store import Store

COLUMNS = (
    "run_id", "experiment", "dataset", "configuration", "seed", "engine", "device", "data_source", "data_digest",
    "overrides", "settings", "status", "started",
)  # fmt: skip


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
    runs = call_follower(partial(_search, status=status), settings or Tracking(), root)
    return _table(runs, datasets)


def _search(store: Store, status: str | None) -> pd.DataFrame:
    import mlflow  # in the follower, which has imported it

    mlflow.set_tracking_uri(store.address)
    condition = "tags.`twinnet.configuration` != ''" + (f" AND attributes.status = '{status}'" if status else "")
    return mlflow.search_runs(search_all_experiments=True, filter_string=condition, output_format="pandas")


def _table(runs: pd.DataFrame, datasets: Sequence[str] | None) -> pd.DataFrame:
    if runs.empty:
        return pd.DataFrame(columns=COLUMNS)

    def values(column: str) -> pd.Series:
        return runs[column].fillna("") if column in runs else pd.Series("", index=runs.index)

    sources = {
        "run_id": "run_id", "dataset": "params.data.name", "configuration": "tags.twinnet.configuration",
        "status": "status", "started": "start_time",
    }  # fmt: skip
    table = pd.DataFrame({name: values(sources.get(name, f"tags.{name}")) for name in COLUMNS})
    table["seed"] = table["seed"].astype(int)
    params = runs[[name for name in runs if name.startswith("params.")]].rename(columns=lambda name: name[7:])
    table["settings"] = [row.dropna().to_dict() for _, row in params.iterrows()]
    names = [name for name in runs if name.startswith("metrics.") and not name.startswith("metrics.system/")]
    scores = {name.removeprefix("metrics."): runs[name] for name in names}
    for name in [name for name in scores if name.startswith("final/")]:  # runs of earlier versions have none
        final = scores.pop(name)
        flat = name.removeprefix("final/")
        scores[flat] = final.fillna(scores[flat]) if flat in scores else final
    table = pd.concat([table, pd.DataFrame(scores)], axis=1)
    if datasets is not None:
        table = table[table["dataset"].isin(datasets)]
    return table.sort_values(["dataset", "started"], ignore_index=True)
