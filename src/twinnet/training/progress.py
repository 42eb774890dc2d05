"""Progress of a training: a bar on a terminal, else a line every LOG_SECONDS."""

import logging
import time
from collections.abc import Callable

from tqdm import tqdm

from twinnet.core.history import History

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0  # between two lines about a running training if no terminal shows a bar


class Progress:
    """A listener of `core.monitor.Monitor`."""

    def __init__(self, name: str, epochs: int) -> None:
        self.bar = tqdm(total=epochs, desc=name, unit=" epochs", disable=None, leave=False)
        self.name, self.epochs, self.last = name, epochs, time.monotonic()
        self.report: Callable[[History], None] = self._write_line if self.bar.disable else self._move_bar

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, history: History) -> None:
        self.report(history)

    def _move_bar(self, history: History) -> None:
        self.bar.update(history.epochs - self.bar.n)
        self.bar.set_postfix(loss=f"{history.train_loss[-1][-1]:.4f}", valid=f"{history.valid_loss[-1]:.4f}")

    def _write_line(self, history: History) -> None:
        if time.monotonic() - self.last >= LOG_SECONDS:
            self.last = time.monotonic()
            log.info(
                "%s: epoch %d of %d, train/loss %.4f, valid/loss %.4f, valid/%s %.4f",
                self.name, history.epochs, self.epochs, history.train_loss[-1][-1], history.valid_loss[-1],
                history.metric, history.valid_metric[-1],
            )  # fmt: skip
