"""Damaged files of runs and damaged checkpoints, and what is made of each: `make faults` prints them, tests run them.

A damaged file must be refused in one line that names it, an odd but right run must be accepted; a checkpoint that does
not fit must be set aside, and the training start over.
"""

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.faults import Outcome, report
from tests.processed import write_players
from twinnet.core import config
from twinnet.core.errors import TwinnetError, one_line_text
from twinnet.core.history import History
from twinnet.core.schema import Experiment
from twinnet.training.checkpoint import CHECKPOINTS
from twinnet.training.experiment import train
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo

ROOT = Path(__file__).parents[2]
CHECKED = ("config.yaml", "metrics.json", "record.json", "history.csv", "predictions.npz", "scaling.json")


@dataclass(frozen=True)
class Case:
    """A damage, and the file that the refusal must name; no file: the run must be accepted."""

    tried: str
    file: str
    damage: Callable[[Path], object]


# -------------------------------------------------------------------------------------------- files of a run


def cases() -> Iterator[Case]:
    """Every damage of a run of 20 epochs on two features."""
    for name in CHECKED:
        for tried, damage in ANY_FILE.items():
            yield Case(f"{name}: {tried}", name, partial(damage, name=name))
    for tried in ("missing", "a folder", "empty", "half of it", "a text", "a link to nowhere"):
        yield Case(f"model.npz: {tried}", "model.npz", partial(ANY_FILE[tried], name="model.npz"))
    for key in ("train/loss", "train/accuracy", "valid/loss", "valid/accuracy", "epochs", "seconds", "parameters"):
        for value in (None, "0.5", True, [1], {}, float("nan"), float("inf"), MISSING):
            yield _json_case("metrics.json", key, value)
    for key in ("data_source", "device"):
        for value in (None, 7, [], MISSING):
            yield _json_case("metrics.json", key, value)
    yield _json_case("metrics.json", "epochs", -1)
    yield _json_case("metrics.json", "epochs", 19, "history.csv")
    yield _json_case("metrics.json", "epochs", 20.5)
    yield _json_case("metrics.json", "valid/accuracy", 0.125, "predictions.npz")
    yield _json_case("metrics.json", "data_source", "the web")
    wrong = {
        "config": [{}, [], None, {"name": "a"}, MISSING], "started": ["now", None, MISSING], "parameters": ["17"],
        "input_shape": [2], "units": [None], "device": [7], "data": [[]], "code": [""], "versions": [[]],
        "dvc": [None], "command": [5], "overrides": ["seed=1"], "warnings": ["one"], "ended": ["later"],
        "weather": ["fine"],
    }  # fmt: skip
    for key, values in wrong.items():
        for value in values:
            yield _json_case("record.json", key, value)
    for key in ("mean", "scale"):
        for values in (MISSING, [1.0], [1.0, 2.0, 3.0], ["a", "b"], [True, True], [float("nan"), 1.0], "1", None):
            yield _json_case("scaling.json", key, values)
    yield _json_case("scaling.json", "scale", [float("inf"), 1.0])
    yield _json_case("scaling.json", "scale", [0, 1.0])
    for tried, change in TABLES.items():
        yield Case(f"history.csv: {tried}", "history.csv", partial(_edit_table, change=change))
    for tried, arrays in PREDICTIONS.items():
        yield Case(f"predictions.npz: {tried}", "predictions.npz", partial(_edit_arrays, change=arrays))
    for old, new in CONFIGS:
        tried = f"config.yaml: {new.strip() or 'nothing'} for {old.strip()}"
        yield Case(tried, "config.yaml", partial(_replace_text, name="config.yaml", old=old, new=new))
    for tried, change in ODD.items():
        yield Case(tried, "", change)


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


def _json_case(name: str, key: str, value: Any, named: str = "") -> Case:
    return Case(f"{name}: {key} is {value!r}", named or name, partial(_edit_json, name=name, key=key, value=value))


def _edit_json(run: Path, name: str, key: str, value: Any) -> None:
    values = json.loads((run / name).read_text())
    if value is MISSING:
        del values[key]
    else:
        values[key] = value
    (run / name).write_text(json.dumps(values))


def _replace_text(run: Path, name: str, old: str, new: str) -> None:
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new, 1))


def _edit_table(run: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(run / "history.csv")).to_csv(run / "history.csv", index=False)


def _edit_arrays(run: Path, change: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]) -> None:
    with np.load(run / "predictions.npz") as arrays:
        y_true, y_prob = arrays["y_true"], arrays["y_prob"]
    np.savez(run / "predictions.npz", **change(y_true, y_prob))


def _write(run: Path, name: str, content: bytes) -> None:
    (run / name).unlink()
    (run / name).write_bytes(content)


def _link(run: Path, name: str, target: str) -> None:
    (run / name).unlink()
    (run / name).symlink_to(target)


def _put_folder(run: Path, name: str) -> None:
    (run / name).unlink()
    (run / name).mkdir()


ANY_FILE: dict[str, Callable[..., object]] = {
    "missing": lambda run, name: (run / name).unlink(),
    "a folder": _put_folder,
    "empty": lambda run, name: _write(run, name, b""),
    "half of it": lambda run, name: _write(run, name, (run / name).read_bytes()[: (run / name).stat().st_size // 2]),
    "a text": lambda run, name: _write(run, name, b"not the file of a run\n"),
    "zeros": lambda run, name: _write(run, name, bytes(100)),
    "random bytes": lambda run, name: _write(run, name, np.random.default_rng(0).bytes(500)),
    "in UTF-16": lambda run, name: _write(run, name, "name: Dončić".encode("utf-16")),
    "in Latin-2": lambda run, name: _write(run, name, "name: Dončić".encode("iso8859-2")),
    "a link to nowhere": lambda run, name: _link(run, name, "nowhere"),
    "a link to itself": lambda run, name: _link(run, name, name),
    "conflict markers": lambda run, name: _write(run, name, b"<<<<<<< HEAD\n" + (run / name).read_bytes()),
}
TABLES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "half of its rows": lambda table: table[:10],
    "no rows": lambda table: table[:0],
    "a row twice": lambda table: pd.concat([table, table[-1:]]),
    "rows in another order": lambda table: table[::-1],
    "a missing row": lambda table: table.drop(5),
    "a NaN": lambda table: table.assign(**{"train/loss": table["train/loss"].where(table["epoch"] != 3)}),
    "an infinity": lambda table: table.assign(**{"valid/loss": float("inf")}),
    "letters": lambda table: table.assign(**{"valid/loss": "low"}),
    "epochs from 0": lambda table: table.assign(epoch=table["epoch"] - 1),
    "a missing column": lambda table: table.drop(columns="valid/loss"),
    "another metric": lambda table: table.rename(columns={"valid/accuracy": "valid/mae"}),
    "one column more": lambda table: table.assign(weather=1),
}
PREDICTIONS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]] = {
    "complex": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob * 1j},
    "text": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob.astype(str)},
    "truth values": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob > 0.5},
    "objects": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob.astype(object)},
    "NaN": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob * np.nan},
    "infinity": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob + np.inf},
    "fewer predictions than labels": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob[:5]},
    "no samples": lambda y_true, y_prob: {"y_true": y_true[:0], "y_prob": y_prob[:0]},
    "two units": lambda y_true, y_prob: {"y_true": y_true, "y_prob": np.hstack([y_prob, y_prob])},
    "one axis": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob[:, 0]},
    "labels of another class": lambda y_true, y_prob: {"y_true": y_true + 5, "y_prob": y_prob},
    "no labels": lambda y_true, y_prob: {"y_prob": y_prob},
    "an array more": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_prob, "z": y_true},
    "other predictions": lambda y_true, y_prob: {"y_true": y_true, "y_prob": y_true[:, None] * 1.0},
}
CONFIGS = (
    ("epochs: 20", "epochs: 0"), ("epochs: 20", "epochs: many"), ("seed: 0", "seed: -1"), ("seed: 0", "sead: 0"),
    ("kind: mlp", "kind: transformer"), ("task: binary", "task: multiclass"), ("  - apg\n", "  - [a]\n"),
)  # fmt: skip
ODD: dict[str, Callable[[Path], object]] = {
    "a file that is not the run's": lambda run: (run / "train.log").write_text("beside it"),
    "a folder of figures": lambda run: (run / "figures").mkdir(),
    "one metric more": lambda run: _edit_json(run, "metrics.json", "joules", 3.5),
    "metrics in another order": lambda run: (run / "metrics.json").write_text(
        json.dumps(dict(reversed(json.loads((run / "metrics.json").read_text()).items())))
    ),
    "no example in record.json": lambda run: _edit_json(run, "record.json", "example", None),
    "predictions without compression": lambda run: _edit_arrays(run, lambda y, p: {"y_true": y, "y_prob": p}),
    "the run behind a link": lambda run: shutil.move(run, run.with_name("moved")) and run.symlink_to("moved"),
}  # fmt: skip


def try_case(case: Case, run: Path) -> Outcome:
    """Damage the run and read it, its network too."""
    case.damage(run)
    try:
        Run.read(run).network()
        answer = "accepted"
    except TwinnetError as error:
        answer = str(error)
    except Exception as error:  # a defect
        return Outcome(case.tried, one_line_text(error), ("a traceback",))
    if case.file:
        is_right = answer.startswith(f"{run / case.file}: expected") and "\n" not in answer
    else:
        is_right = answer == "accepted"
    answer = answer.replace(f"{run}/", "")
    return Outcome(case.tried, answer, () if is_right else ("expected another answer",))


# ---------------------------------------------------------------------------------------------- checkpoints


def _rewrite(file: Path, **changes: np.ndarray | None) -> None:
    """Change arrays of a checkpoint (None: remove them); `__` in a name stands for `/`."""
    with np.load(file) as archive:
        arrays = dict(archive)
    for name, value in changes.items():
        key = name.replace("__", "/")
        arrays.pop(key, None) if value is None else arrays.update({key: value})
    np.savez(file, **arrays)


CHECKPOINT_DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "half of it": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "a text": lambda file: file.write_text("a text"),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a link to nowhere": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "without weights": lambda file: _rewrite(file, **{"engine__state/0": None}),
    "weights of another shape": lambda file: _rewrite(file, **{"engine__state/0": np.zeros((7, 7))}),
    "weights that are text": lambda file: _rewrite(file, **{"engine__state/0": np.array(["a", "b"])}),
    "without a history": lambda file: _rewrite(file, history__valid_epoch=None),
    "an empty history": lambda file: _rewrite(file, history__valid_epoch=np.empty(0, int)),
    "half a history": lambda file: _rewrite(file, **{"history__train/loss": np.zeros(2)}),
    "without its best epoch": lambda file: _rewrite(file, best_epoch=None),
    "without seconds": lambda file: _rewrite(file, seconds=None),
    "seconds that are a text": lambda file: _rewrite(file, seconds=np.array("long")),
}


class Interruption:
    """A tracker that interrupts a training after some epochs, as Ctrl-C does (-1: never)."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.seen: list[int] = []

    def started(self, info: RunInfo) -> None:
        pass

    def progressed(self, history: History) -> None:
        self.seen.append(history.epochs)
        if history.epochs == self.epochs:
            raise KeyboardInterrupt

    def finished(self, run: Run) -> None:
        pass

    def failed(self, error: BaseException) -> None:
        pass


def small_experiment(*overrides: str) -> Experiment:
    """A training of a few milliseconds that saves a checkpoint after each epoch."""
    settings = ["experiment=nba_scratch", "engine=scratch_numpy", "epochs=20", "checkpoint_seconds=0", *overrides]
    return config.experiment(config.compose(ROOT, "train", settings))


def try_checkpoint(tried: str, project: Path, place: Path) -> Outcome:
    """Interrupt a training, damage its checkpoint and start it again."""
    experiment = small_experiment("optimizer=adam", "batch_size=16")
    for folder in (project / CHECKPOINTS).glob("*/"):
        shutil.rmtree(folder)
    with contextlib.suppress(KeyboardInterrupt):
        train(experiment, place, root=project, tracker=Interruption(7))
    (file,) = (project / CHECKPOINTS).glob("*/state.npz")
    CHECKPOINT_DAMAGES[tried](file)
    again = Interruption(-1)
    try:
        run = train(experiment, place, root=project, tracker=again)
    except Exception as error:
        return Outcome(tried, one_line_text(error), ("the training ended",))
    is_right = again.seen[0] == 1 and Run.read(run.directory).metrics["epochs"] == 20
    return Outcome(tried, f"started over at epoch {again.seen[0]}", () if is_right else ("went on from it",))


# ----------------------------------------------------------------------------------------------------- tables


def try_files(folder: Path) -> list[Outcome]:
    """The outcome of every damage of a file, each on a copy of one run."""
    write_players(folder)
    run = train(small_experiment(), folder / "runs" / "trained", root=folder).directory
    outcomes = []
    for case in cases():
        copy = folder / "runs" / "copy"
        shutil.copytree(run, copy)
        outcomes.append(try_case(case, copy))
        for left in (folder / "runs").iterdir():
            if left != run:
                left.unlink() if left.is_symlink() else shutil.rmtree(left)
    return outcomes


def try_checkpoints(folder: Path) -> list[Outcome]:
    write_players(folder)
    return [try_checkpoint(tried, folder, folder / "runs" / "again") for tried in CHECKPOINT_DAMAGES]


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(report({"damaged or odd files of a run": try_files, "damaged checkpoints": try_checkpoints}))
