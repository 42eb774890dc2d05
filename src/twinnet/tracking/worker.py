"""The process that talks to MLflow beside a training: `python -m twinnet.tracking.worker`.

It reads one JSON message a line from its standard input and answers each `finish` and `fail` with `done`. MLflow is
imported here, so that neither its import (seconds of one core) nor a store that hangs or crashes can hold a training
up. When the input ends in the middle of a run, the training process has died: the run is marked KILLED.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twinnet.core.secrets import mask
from twinnet.tracking import log_run
from twinnet.tracking.store import Store, StoreError, connect, guarded
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo

DIED = "the training process ended without a word (killed, or out of memory)"
RETRY_SECONDS = 30.0  # between two tries to reach a store that did not answer while a training goes on


@dataclass
class Live:
    """A run that trains now, and what of it the store has not got yet."""

    where: str
    facts: RunInfo
    tags: dict[str, str]
    store: Store | None = None
    run_id: str | None = None
    described: bool = False
    pending: list[dict[str, float]] = field(default_factory=list)
    last_epoch: int = 0

    def send(self) -> tuple[Store, str]:
        """Bring the store up to date: the run itself, then the points of its curves that it lacks."""
        if self.store is None:
            self.store = connect(self.where)
        if self.run_id is None:
            self.run_id = log_run.create(self.store, self.facts, self.tags)
        if not self.described:
            log_run.describe(self.store, self.run_id, self.facts)
            self.described = True
            self.store.bury()
        if self.pending:
            log_run.rows(self.store, self.run_id, self.pending)
            self.last_epoch, self.pending = int(self.pending[-1]["epoch"]), []
        return self.store, self.run_id

    def finish(self, directory: str) -> None:
        store, run_id = self.send()
        log_run.finish(store, run_id, Run.read(Path(directory)), self.last_epoch)

    def fail(self, status: str, reason: str, traceback: str) -> None:
        store, run_id = self.send()
        log_run.fail(store, run_id, self.facts, status, reason, traceback)


def serve(inbox: "queue.SimpleQueue[str | None]", say: Callable[..., None]) -> None:
    """Follow the messages of one training process, run after run, until None tells that it is gone."""
    live: Live | None = None
    retry_at = 0.0

    def attempt(where: str, act: Callable[[], object]) -> bool:
        """A store that fails is a warning, once a run."""
        nonlocal retry_at
        try:
            with guarded(where):
                act()
            return True
        except Exception as error:
            if not retry_at:
                told = str(error) if isinstance(error, StoreError) else mask(f"{type(error).__name__}: {error}", where)
                say("warning", text=" ".join(told.split()))
            retry_at = time.monotonic() + RETRY_SECONDS
            return False

    while (line := inbox.get()) is not None:
        message: dict[str, Any] = json.loads(line)
        asked = message.pop("do")
        if asked == "start":
            live = Live(message["where"], RunInfo(**message["facts"]), message["tags"])
            retry_at = 0.0
            attempt(live.where, live.send)
        elif live is None:
            continue
        elif asked == "rows":
            live.pending += message["rows"]
            if inbox.empty() and time.monotonic() >= retry_at:  # else the store is slower than the training
                attempt(live.where, live.send)
        else:
            act = getattr(live, asked)
            complete = attempt(live.where, live.send)
            if complete:
                say("answered")  # it may have been silent before
                complete = attempt(live.where, partial(act, **message))
            say("done", complete=complete)
            live = None
    if live is not None:
        attempt(live.where, partial(live.fail, "KILLED", DIED, ""))


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like a reply

    def say(said: str, **more: Any) -> None:
        try:
            replies.write(json.dumps({"said": said, **more}) + "\n")
            replies.flush()
        except OSError:
            pass  # nobody listens any more

    def listen() -> None:
        for line in sys.stdin:
            inbox.put(line)
        inbox.put(None)

    inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=listen, daemon=True).start()
    say("ready")
    serve(inbox, say)


if __name__ == "__main__":
    main()
