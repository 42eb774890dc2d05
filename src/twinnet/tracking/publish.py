"""Make the store hold exactly one finished run for each result on disk, whichever of the two was there first."""

import logging
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from twinnet.core import paths
from twinnet.core.errors import DataError
from twinnet.core.schema import Tracking
from twinnet.core.secrets import mask
from twinnet.tracking.store import Store, StoreError, address, opened
from twinnet.training.run import Run, content_hash, finished_runs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """What a call of `publish` did, as names of runs."""

    sent: tuple[str, ...] = ()
    present: tuple[str, ...] = ()  # had their run already
    unsent: tuple[str, ...] = ()  # the store did not answer


def publish(runs: Path, settings: Tracking | None = None, *, root: Path | None = None) -> Published:
    """Publish each complete run under `runs`; calling it again changes nothing.

    A store that does not answer is one line in the log, not an error: the runs stay on disk, and the next call sends
    them. Raises DataError, after the others are sent, for a folder that claims to be a run and is not.
    """
    settings = settings or Tracking()
    folders = finished_runs(runs)
    if not settings.enabled or not folders:
        return Published()
    done: dict[bool, list[str]] = {True: [], False: []}
    broken: list[DataError] = []
    try:
        lock = FileLock(_folder((root or paths.main_root()) / "build") / "publish.lock")
        with lock, opened(settings, root) as store:
            store.bury()
            for folder in folders:
                try:
                    done[_send(store, folder)].append(folder.name)
                except DataError as error:
                    broken.append(error)
    except StoreError as error:
        unsent = [folder.name for folder in folders if folder.name not in done[True] + done[False]]
        log.warning(
            "%s; not published: %s; they are kept in %s, and `python -m pipelines.publish` sends them",
            error, ", ".join(unsent), runs,
        )  # fmt: skip
        return Published(tuple(done[True]), tuple(done[False]), tuple(unsent))
    told = mask(address(root))
    log.info("%d of %d runs were in %s already, %d were sent", len(done[False]), len(folders), told, len(done[True]))
    if broken:
        raise broken[0]
    return Published(tuple(done[True]), tuple(done[False]))


def _send(store: Store, folder: Path) -> bool:
    """Leave one finished run of the result in the store; True where it had to be sent."""
    from twinnet.tracking import log_run  # imports MLflow

    condition = f"tags.`{log_run.RESULT}` = '{content_hash(folder)}' AND attributes.status = 'FINISHED'"
    first, *twins = [run.info.run_id for run in store.search(condition)] or [None]
    for twin in twins:  # two machines sent it at once
        store.client.delete_run(twin)
    if first:
        return False
    record = Run.read(folder)
    run_id = log_run.start(store, record.info, {"published": "from its record on disk"})
    log_run.finish(store, run_id, record)
    return True


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
