"""MLflow, and nothing else knows MLflow.

A training is told to a tracker, which hands it on to a process of its own, so that no store can hold a training up;
`publish` sends what lies on disk and the store has not got; `runs_table` reads the store back.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twinnet.core.schema import Tracking
from twinnet.tracking.publish import Published, publish
from twinnet.tracking.search_runs import runs_table
from twinnet.tracking.store import StoreError, address
from twinnet.tracking.tracker import MlflowTracker

if TYPE_CHECKING:
    from twinnet.training.experiment import Tracker

__all__ = ["Published", "StoreError", "address", "publish", "runs_table", "tracker"]


def tracker(
    settings: Tracking, *, parent: str | None = None, tags: Mapping[str, str] | None = None, root: Path | None = None
) -> "Tracker | None":
    """Return the tracker of one run, or None if tracking is off; make it before the data is loaded.

    `parent` is the id of the MLflow run that this one belongs to, `tags` are added to the run's own; `root` is the
    checkout whose store is used if MLFLOW_TRACKING_URI names none.
    """
    if not settings.enabled:
        return None
    return MlflowTracker(settings, dict(tags or {}) | ({"mlflow.parentRunId": parent} if parent else {}), root)
