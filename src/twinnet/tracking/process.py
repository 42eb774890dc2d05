"""The worker process as a training sees it: messages go out without waiting, replies are heard when asked for."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import twinnet
from twinnet.core.schema import Tracking
from twinnet.tracking.store import settle


class Worker:
    """A process of `twinnet.tracking.worker` and the two threads that feed it and listen to it."""

    def __init__(self, settings: Tracking) -> None:
        library = str(Path(twinnet.__file__).parents[1])
        inherited = os.environ.get("PYTHONPATH")
        environment = os.environ | settle(settings)
        environment["PYTHONPATH"] = os.pathsep.join([library, *([inherited] if inherited else [])])
        self.owner, self.settings, self.ready = os.getpid(), settings, False
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "twinnet.tracking.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the training; the worker hears of it in a message
        )
        self.outbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._feed, daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, do: str, **message: Any) -> None:
        """Returns at once, however slow the worker is."""
        self.outbox.put({"do": do, **message})

    def hear(self, seconds: float = 0.0) -> dict[str, Any] | None:
        """The next reply, None where none comes in time; `{"said": "ended"}` is the last of a worker that is gone."""
        try:
            return self.inbox.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return None

    def usable(self, settings: Tracking) -> bool:
        return self.settings == settings and self.owner == os.getpid() and self.process.poll() is None

    def stop(self) -> int:
        """End the process whatever it does; its exit status."""
        self.process.kill()
        return self.process.wait()

    def _feed(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # the worker is gone; `_listen` tells
            while True:
                self.process.stdin.write(json.dumps(self.outbox.get()) + "\n")
                self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            reply = json.loads(line)
            self.ready = True
            self.inbox.put(reply)
        self.inbox.put({"said": "ended"})


class Pool:
    """Workers that wait for the next run of this process, so that a sweep of short runs imports MLflow once."""

    def __init__(self) -> None:
        self.spare: list[Worker] = []

    def take(self, settings: Tracking) -> Worker:
        while self.spare:
            worker = self.spare.pop()
            if worker.usable(settings):
                return worker
        return Worker(settings)

    def give_back(self, worker: Worker) -> None:
        self.spare.append(worker)
