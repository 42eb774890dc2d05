"""The runs of the store as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    runs = call_follower(_search, settings or Tracking(), root, status=status)
    table = pd.DataFrame(runs, columns=[*COLUMNS, "metrics"])
    table = table.join(pd.DataFrame(table.pop("metrics").tolist(), index=table.index))
    table["started"] = pd.to_datetime(table["started"], unit="ms", utc=True)
    if datasets is not None:
        table = table[table["dataset"].isin(datasets)]
    return table.sort_values(["dataset", "started"], ignore_index=True)


def _search(store: Store, status: str | None) -> list[dict[str, Any]]:
    from twinnet.tracking.log_run import final_metrics  # imports MLflow: 3 s

    condition = "tags.`twinnet.configuration` != ''" + (f" AND attributes.status = '{status}'" if status else "")
    rows = []
    for run in store.search(condition):
        info, tags, params = run.info, run.data.tags, run.data.params
        row = {name: tags.get(name, "") for name in COLUMNS} | {"run_id": info.run_id, "status": info.status}
        row |= {"dataset": params.get("data.name", ""), "configuration": tags["twinnet.configuration"]}
        row |= {"seed": int(tags["seed"]), "started": info.start_time, "settings": params}
        rows.append(row | {"metrics": final_metrics(run.data.metrics)})
    return rows
