"""The tracker that a training tells about itself; it hands everything on to a worker process and never raises."""

import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twinnet.core.errors import PrunedError
from twinnet.core.history import History
from twinnet.core.schema import Tracking
from twinnet.core.secrets import mask
from twinnet.tracking.curves import thin_history
from twinnet.tracking.process import Pool
from twinnet.tracking.store import address, is_server
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo

log = logging.getLogger(__name__)

LOCAL_SECONDS = 300.0  # at most, for what no server can delay: importing MLflow, writing to a local store
POOL = Pool()


class MlflowTracker:
    """Implements `training.experiment.Tracker`. Whatever goes wrong here is a line in the log and costs no training."""

    def __init__(self, settings: Tracking, tags: Mapping[str, str], root: Path | None = None) -> None:
        self.settings, self.tags, self.where = settings, dict(tags), address(root)
        self.worker = POOL.take(settings)
        self.info: RunInfo | None = None
        self.history: History | None = None
        self.epochs, self.chunks_sent, self.last_sent = 0, 0, time.monotonic()
        self.healthy, self.over = True, False

    def started(self, info: RunInfo) -> None:
        with _harmless():
            self.info, self.epochs = info, info.epochs
            self.worker.send("start", where=self.where, facts=asdict(info), tags=self.tags)

    def progressed(self, history: "History") -> None:
        self.history = history
        last = history.epochs >= self.epochs  # the store gets the curves while the run is written
        if last or time.monotonic() - self.last_sent >= self.settings.live_seconds:
            with _harmless():
                self._send_rows()
                while self._hear(0):
                    pass

    def finished(self, run: "Run") -> None:
        with _harmless():
            if self.info is None:
                return
            self._send_rows()
            self.worker.send("finish", directory=str(run.directory.absolute()))
            self._end(f"the run is complete in {run.directory}; `python -m pipelines.publish` sends what runs/ holds")

    def failed(self, error: BaseException) -> None:
        with _harmless():
            if self.over:
                return  # interrupted while the worker writes the end of the run, which it goes on to do
            if self.info is None:
                POOL.give_back(self.worker)  # nothing was trained, so there is no run
                return
            self._send_rows()
            interrupted, pruned = isinstance(error, KeyboardInterrupt | SystemExit), isinstance(error, PrunedError)
            reason = "interrupted" if interrupted else str(error) if pruned else f"{type(error).__name__}: {error}"
            self.worker.send(
                "fail",
                status="KILLED" if interrupted or pruned else "FAILED",
                reason=mask(reason, self.where),
                traceback="" if pruned else mask("".join(traceback.format_exception(error)), self.where),
            )
            self._end("it is marked as killed there when the next run starts")

    def _send_rows(self) -> None:
        """The points of the curves since the last time."""
        self.last_sent = time.monotonic()
        if self.history is None:
            return
        rows = thin_history(self.history, self.chunks_sent, self.epochs)
        self.chunks_sent = len(self.history.valid_epoch)
        if rows:
            self.worker.send("rows", rows=rows)

    def _end(self, consolation: str) -> None:
        """Wait until the worker has written the end of the run, but no longer than a store may take."""
        self.over = True
        last, begun = None, time.monotonic()
        while last is None and time.monotonic() - begun < self._patience():
            heard = self._hear(0.2)
            if heard and heard["said"] in ("done", "ended"):
                last = heard
            elif heard:
                begun = time.monotonic()  # only now is it the store that is waited for
        if last and last["said"] == "done":
            POOL.give_back(self.worker)
            if last["complete"]:
                return
            why = "does not have the whole run"
        else:
            status = self.worker.stop()
            why = f"lost the run: its process ended with status {status}" if last else "took too long"
        log.warning("the tracking store %s %s; %s", mask(self.where, self.where), why, consolation)

    def _patience(self) -> float:
        """Seconds to wait at the end of a run."""
        if not self.worker.ready or not is_server(self.where):
            return LOCAL_SECONDS
        return self.settings.patience_seconds if self.healthy else self.settings.timeout_seconds

    def _hear(self, seconds: float) -> dict[str, Any] | None:
        heard = self.worker.hear(seconds)
        if heard and heard["said"] == "answered":
            self.healthy = True
        if heard and heard["said"] == "warning":
            self.healthy = False
            log.warning("%s; the training does without it", heard["text"])
        return heard


@contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.warning("tracking: %s", mask(f"{type(error).__name__}: {error}"))
