"""The comparison of finished runs: its claims, its refusals, its files in reports/."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import binomtest

from tests.processed import write_arrays, write_table
from twinnet.compare import report, tables
from twinnet.compare.__main__ import main
from twinnet.compare.draw import seasons
from twinnet.compare.report import leaderboard_text
from twinnet.compare.tables import NO_DIFFERENCE
from twinnet.compare.write import write_comparison
from twinnet.core import config, provenance, rules
from twinnet.core.errors import ConfigError, DataError, exit_on_error
from twinnet.core.history import Chunk, History
from twinnet.core.metrics import compute_metrics
from twinnet.core.network import build_network
from twinnet.core.problem import metric
from twinnet.core.schema import Compare, Experiment, ImageData, Task
from twinnet.core.splits import Splits
from twinnet.engines.scratch.model import ScratchNetwork
from twinnet.training.run import write_run
from twinnet.training.run_info import RunInfo

QUICK = Compare(resamples=500)
LABELS = np.random.default_rng(0).integers(2, size=400)


@dataclass
class Project:
    """A folder with runs/ that were never trained: predictions drawn to be right as often as asked."""

    folder: Path
    compose: Callable[..., Experiment]

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def leave(
        self, name: str, *overrides: str, base: str = "nba_scratch", right: float = 0.8, y_true: np.ndarray = LABELS,
        y_prob: np.ndarray | None = None, source: str = "mirror", device: str = "cpu", seed: int = 0, digest: str = "",
    ) -> Path:  # fmt: skip
        """Write the directory of a run, as training does."""
        experiment = replace(self.compose(base, "epochs=2", *overrides), name=name)
        if y_prob is None:
            y_prob = drawn(y_true, right, experiment, seed)
        task, network = experiment.data.task, build_network(experiment)
        scores = compute_metrics(task, rules.loss(experiment), y_true, y_prob)
        split = "test" if isinstance(experiment.data, ImageData) else "valid"
        metrics = {f"{part}/{key}": value for part in ("train", "valid", split) for key, value in scores.items()}
        metrics |= {"epochs": 2, "seconds": 1.5, "parameters": 17, "data_source": source, "device": device}
        history = History(metric(task))
        for value in (1.0, 0.5):
            history.append(Chunk(np.array([value]), np.array([value]), value, value))
        settings = config.plain(experiment)
        info = RunInfo(settings, 0, 17, list(network.input_shape), 1, data={"digest": digest, "source": source})
        channels = network.input_shape[-1]
        nothing = np.empty(0)
        splits = Splits(*[nothing] * 6, source, digest, np.zeros(channels), np.ones(channels))
        model = ScratchNetwork(network, network.initial_weights(experiment.model.init, 0, "float64"))
        run = write_run(self.runs / name, experiment, info, metrics, history, (y_true, y_prob), splits, model)
        if experiment.engine.kind == "keras":  # whose model nothing here loads
            (run.directory / "model.npz").rename(run.directory / "model.keras")
        return run.directory

    def compare(self, settings: Compare = QUICK, **options: Any) -> pd.DataFrame:
        write_comparison(self.runs, self.reports, settings, root=self.folder, **options)
        return self.table("comparison")

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.reports / f"comparison/{name}.csv")

    def report(self) -> str:
        return (self.reports / "comparison/comparison.md").read_text()

    def text(self) -> str:
        return leaderboard_text(self.reports / "comparison")

    def images(self, labels: np.ndarray) -> str:
        """Write data/ of a Fashion-MNIST whose image of sample i is i everywhere; return its digest."""
        pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), dtype=np.uint8)
        test, train = {"X_test": pixels, "y_test": labels.astype(np.uint8)}, np.arange(5010)
        blank = {"X_train": np.zeros((len(train), 28, 28), np.uint8), "y_train": (train % 10).astype(np.uint8)}
        file = write_arrays(self.folder, "fashion_mnist", blank | test, "mirror")
        return provenance.sha256(file)

    def players(self) -> str:
        """Write data/ of players of two seasons; return its digest."""
        random = np.random.default_rng(0)
        players = pd.DataFrame({"apg": random.random(400), "rpg": random.random(400), "is_forward": LABELS})
        players = players.assign(season=np.repeat([1999, 2019], 200), player_id=1)
        return provenance.sha256(write_table(self.folder, "nba", players, "mirror"))


def drawn(y_true: np.ndarray, right: float, experiment: Experiment, seed: int) -> np.ndarray:
    """Output activations that are right with probability `right`."""
    random = np.random.default_rng(seed)
    if experiment.data.task is Task.regression:
        return y_true[:, None] + random.normal(0, 1 - right, (len(y_true), 1))
    hit = random.random(len(y_true)) < right
    if experiment.data.task is Task.binary:
        return np.where(hit == (y_true == 1), 0.7, 0.2)[:, None]
    classes = len(experiment.data.classes or [])
    chosen = np.where(hit, y_true, (y_true + 1) % classes)
    return np.where(np.eye(classes)[chosen] == 1, 0.82, 0.02)


@pytest.fixture
def drawing(tmp_path: Path, compose: Callable[..., Experiment]) -> Project:
    """A project whose figures are really drawn."""
    return Project(tmp_path, compose)


@pytest.fixture
def project(drawing: Project, empty_pictures: None) -> Project:
    return drawing


# ------------------------------------------------------------------------------------------- the leaderboard


def test_runs_are_ordered_by_data_set_and_score(project: Project) -> None:
    project.leave("weak", right=0.6)
    project.leave("strong", right=0.9)
    project.leave("garments", base="fashion_dense", y_true=np.arange(100) % 10)
    board = project.compare()
    assert board["experiment"].tolist() == ["garments", "strong", "weak"]
    assert board["split"].tolist() == ["test", "valid", "valid"]
    for row in board.itertuples():
        with np.load(project.runs / row.experiment / "predictions.npz") as saved:
            y_true, y_prob = saved["y_true"], saved["y_prob"]
        y_pred = y_prob.argmax(axis=1) if y_prob.shape[1] > 1 else (y_prob[:, 0] > 0.5).astype(int)
        oracle = binomtest(int((y_pred == y_true).sum()), len(y_true)).proportion_ci(method="wilson")
        assert (row.low, row.high) == pytest.approx((oracle.low, oracle.high))
        assert row.accuracy == pytest.approx((y_pred == y_true).mean())
    assert board["engine"].tolist() == ["keras/tensorflow", "scratch/jax", "scratch/jax"]


def test_equally_accurate_runs_are_ordered_by_loss(project: Project) -> None:
    sure, unsure = np.where(LABELS == 1, 0.95, 0.05)[:, None], np.where(LABELS == 1, 0.6, 0.4)[:, None]
    project.leave("a_unsure", y_prob=unsure)
    project.leave("b_sure", y_prob=sure)
    assert project.compare()["experiment"].tolist() == ["b_sure", "a_unsure"]


def test_synthetic_data_are_never_paired_with_real_data(project: Project) -> None:
    project.leave("real", right=0.6)
    project.leave("pretended", right=0.99, source="synthetic")
    board = project.compare()
    assert board["experiment"].tolist() == ["real", "pretended"]
    assert board["synthetic"].tolist() == [False, True]
    assert project.table("pairs").empty
    report = project.report()
    assert report.index("| real ") < report.index("# Synthetic data") < report.index("| pretended ")
    text = project.text()
    assert text.index("real ") < text.index("SYNTHETIC") < text.index("pretended ")
    assert (project.reports / "comparison/figures/leaderboard_nba_synthetic.png").is_file()


def test_degenerate_run_is_marked_and_stands_last(project: Project) -> None:
    project.leave("fine")
    project.leave("degenerate", base="nba_keras_book", right=0.99)
    board = project.compare().set_index("experiment")
    assert "does not learn" in board.loc["degenerate", "note"]
    assert pd.isna(board.loc["fine", "note"])
    assert "| degenerate (degenerate) |" in project.report()
    assert "* degenerate does not learn" in project.text()
    assert board.index.tolist() == ["fine", "degenerate"]
    row = next(line for line in project.text().splitlines() if line.startswith("  degenerate*"))
    assert row.split()[5] == "–", "its loss is 0 whatever it predicts"


def test_regression_has_its_own_table_and_interval(project: Project) -> None:
    target = np.random.default_rng(1).normal(size=200)
    regression = ("data.task=regression", "data.classes=null", "data.target=rpg", "data.features=[apg]")
    project.leave("far", *regression, right=0.2, y_true=target)
    project.leave("near", *regression, right=0.9, y_true=target)
    project.leave("classes")
    board = project.compare()
    assert board["experiment"].tolist() == ["classes", "near", "far"]
    near = board.iloc[1]
    assert near["low"] < near["mae"] < near["high"]
    assert pd.isna(near["accuracy"])
    of_classes, _, of_regression = project.report().partition("## nba, regression")
    assert "(figures/leaderboard_nba.png)" in of_classes
    assert "(figures/leaderboard_nba_regression.png)" in of_regression
    assert "nba, regression: " in project.text(), "read from a file where a regression has no calibration error"
    assert {"leaderboard_nba.png", "leaderboard_nba_regression.png"} <= {
        path.name for path in (project.reports / "comparison/figures").iterdir()
    }
    assert not (project.reports / "plots/confusion/near.csv").exists()


def test_the_printed_leaderboard_fits_a_terminal(project: Project) -> None:
    project.leave("a_run_whose_name_is_longer_than_any_column", device="gpu: NVIDIA H100 80GB HBM3", right=1.0)
    for seed in range(5):
        project.leave(f"another_run_with_a_long_name_{seed}", "engine=keras", right=0.8, seed=seed)
    project.leave("a_run_in_bfloat16", device="cpu, bfloat16", right=0.7)
    project.compare()
    text = project.text()
    assert "bfloat16 " not in text.replace("a_run_in_bfloat16", "")
    assert max(map(len, text.splitlines())) <= 100
    assert "100.00%" in text
    with pytest.raises(DataError, match="dvc repro compare"):
        leaderboard_text(project.folder / "elsewhere")


def test_any_folder_name_is_the_name_of_a_run(project: Project) -> None:
    for name in ("007", "NA", "null"):
        project.leave(name)
    project.compare()
    assert [line.split()[0] for line in project.text().splitlines()[2:5]] == ["007", "NA", "null"]
    assert "no difference shown in 3 of 3 pairs: 007 and NA; 007 and null; NA and null" in project.text()


# ------------------------------------------------------------------------------------------------- the pairs


def test_difference_is_claimed_only_if_it_is_shown(project: Project) -> None:
    same = np.where(LABELS == 1, 0.9, 0.1)[:, None]
    same[:60] = 1 - same[:60]
    project.leave("twin_a", y_prob=same)
    project.leave("twin_b", y_prob=same)
    project.leave("worse", right=0.55)
    project.compare()
    pairs = project.table("pairs")
    verdicts = {(row.first, row.second): row.verdict for row in pairs.itertuples()}
    assert verdicts == {
        ("twin_a", "twin_b"): NO_DIFFERENCE,
        ("twin_a", "worse"): "twin_a is better",
        ("twin_b", "worse"): "twin_b is better",
    }
    assert (pairs["p_corrected"] >= pairs["p"]).all()
    assert f"| {NO_DIFFERENCE} " in project.report()
    assert "no difference shown in 1 of 3 pairs: twin_a and twin_b" in project.text()


def test_runs_on_different_samples_are_not_paired(project: Project) -> None:
    project.leave("one")
    project.leave("two")
    project.leave("other_season", y_true=LABELS[::-1].copy())
    project.compare()
    pairs = project.table("pairs")
    assert [(row.first, row.second) for row in pairs.itertuples()] == [("one", "two")]
    assert "2 pairs are not compared" in project.report()


def test_stricter_confidence_widens_the_intervals(project: Project) -> None:
    project.leave("one")
    wide, narrow = project.compare(Compare(confidence=0.99)), project.compare(Compare(confidence=0.5))
    assert wide["low"][0] < narrow["low"][0] < narrow["high"][0] < wide["high"][0]


# ------------------------------------------------------------------------------------------ what is left behind


def test_the_same_runs_leave_the_same_bytes(project: Project) -> None:
    """Of figures: test_unchanged_figures_are_not_drawn_again."""
    project.leave("one")
    project.leave("two", right=0.5)

    def files() -> dict[str, bytes]:
        found = (path for path in project.reports.rglob("*") if path.is_file())
        return {str(path.relative_to(project.reports)): path.read_bytes() for path in found}

    project.compare()
    first = files()
    project.compare()
    assert files() == first
    assert {
        "comparison/comparison.csv",
        "comparison/comparison.md",
        "metrics/one.json",
        "plots/calibration/one.csv",
    } <= set(first)


def test_removed_run_leaves_no_figure_and_other_files_stay(project: Project) -> None:
    project.leave("one")
    gone = project.leave("gone", "data.name=fashion_mnist", base="fashion_dense", y_true=np.arange(40) % 10)
    project.compare()
    (project.reports / "notes.txt").write_text("mine")
    (project.reports / ".staging-999999999").mkdir()  # of a comparison that was killed
    assert (project.reports / "comparison/figures/leaderboard_fashion_mnist.png").is_file()
    shutil.rmtree(gone)
    project.compare()
    assert not list((project.reports / "comparison/figures").glob("*fashion*"))
    assert (project.reports / "notes.txt").read_text() == "mine"
    assert not list(project.reports.glob(".*"))


def test_files_for_dvc_hold_what_its_templates_want(project: Project) -> None:
    project.leave("one", right=0.75)
    project.compare()
    confusion = pd.read_csv(project.reports / "plots/confusion/one.csv")
    pairs = [(true, predicted) for true in ("guard", "forward") for predicted in ("guard", "forward")]
    assert list(zip(confusion["actual"], confusion["predicted"], strict=True)) == pairs
    of_class = confusion.groupby("actual")[["samples", "share"]].sum()
    assert of_class["samples"].to_dict() == {"guard": (LABELS == 0).sum(), "forward": (LABELS == 1).sum()}
    assert of_class["share"].tolist() == pytest.approx([1, 1], abs=1e-5)
    right = confusion.loc[confusion["actual"] == confusion["predicted"], "samples"].sum()
    curve = pd.read_csv(project.reports / "plots/accuracy/nba.csv")
    assert curve.to_dict("list") == {"epoch": [1, 2], "run": ["one", "one"], "accuracy": [1.0, 0.5]}
    assert list(pd.read_csv(project.reports / "plots/loss/nba.csv")) == ["epoch", "run", "loss"]
    metrics = json.loads((project.reports / "metrics/one.json").read_text())
    assert set(metrics) == {"accuracy", "loss", "ece", "train", "valid"}
    assert metrics["accuracy"] == pytest.approx(right / len(LABELS), abs=1e-4)
    assert json.loads((project.reports / "metrics.json").read_text()) == {"one": metrics["accuracy"]}
    bins = pd.read_csv(project.reports / "plots/calibration/one.csv")
    assert bins["samples"].sum() == len(LABELS)
    gap = np.average((bins["accuracy"] - bins["confidence"]).abs(), weights=bins["samples"])
    assert metrics["ece"] == pytest.approx(gap, abs=1e-4)


def test_scores_of_each_class(project: Project) -> None:
    y_prob = np.where(LABELS == 1, 0.9, 0.1)[:, None].copy()
    missed = np.flatnonzero(LABELS == 1)[:10]
    y_prob[missed] = 0.1
    project.leave("one", y_prob=y_prob)
    project.compare()
    rows = project.table("per_class").set_index("class")
    ones, zeros = int((LABELS == 1).sum()), int((LABELS == 0).sum())
    assert rows.loc["forward", ["precision", "recall"]].tolist() == pytest.approx([1, (ones - 10) / ones])
    assert rows.loc["guard", ["precision", "recall"]].tolist() == pytest.approx([zeros / (zeros + 10), 1])
    assert rows["samples"].to_dict() == {"guard": zeros, "forward": ones}


def test_accuracy_is_drawn_against_size_if_sizes_differ(project: Project) -> None:
    small = project.leave("small")
    project.leave("large")
    picture = project.reports / "comparison/figures/parameters_nba.png"
    project.compare()
    assert not picture.exists()
    change_metrics(small, parameters=5)
    project.compare()
    assert picture.is_file()
    assert "(figures/parameters_nba.png)" in project.report()


def test_runs_are_drawn_from_the_data_they_were_trained_on(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    labels, garments = np.arange(40) % 10, ("data.valid_samples=10",)
    digest = project.images(labels)
    project.leave("garments", *garments, base="fashion_dense", y_true=labels, right=0.5, digest=digest)
    project.leave("flawless", *garments, base="fashion_dense", y_true=labels, right=1.0, digest=digest)
    drawn = project.reports / "runs/garments/mistakes.png"
    project.compare()
    assert caplog.text == ""
    assert drawn.is_file()
    assert "(../runs/garments/mistakes.png)" in project.report()
    assert {"confusion_matrix.png", "learning_curves.png", "samples.png", "predictions.png"} == {
        path.name for path in (project.reports / "runs/flawless").iterdir()
    }
    project.images(labels[::-1].copy())
    project.compare()
    assert not drawn.exists()
    assert "garments: no figures are drawn: its data has changed since" in caplog.text
    caplog.clear()
    shutil.rmtree(project.folder / "data")
    project.compare()
    assert "garments: no figures are drawn: " in caplog.text
    assert "run `dvc repro preprocess@fashion_mnist`" in caplog.text


def test_boundary_is_drawn_from_the_saved_network(drawing: Project, caplog: pytest.LogCaptureFixture) -> None:
    drawing.leave("one", digest=drawing.players())
    assert seasons("nba", drawing.folder) == "1999-00, 2019-20"
    assert seasons("fashion_mnist", drawing.folder) == ""
    drawing.compare()
    assert caplog.text == ""
    assert (drawing.reports / "runs/one/decision_boundary.png").stat().st_size > 1000


def test_unchanged_figures_are_not_drawn_again(drawing: Project) -> None:
    drawing.leave("one", digest=drawing.players())
    drawing.compare()
    cache, mark = drawing.folder / "build/figures", b"not drawn again"
    of_run, of_section = (drawing.reports / name for name in ("runs/one", "comparison/figures"))
    first = {file: file.read_bytes() for folder in (of_run, of_section) for file in folder.iterdir()}
    for file in cache.glob("*/*.png"):
        file.write_bytes(mark)
    drawing.compare()
    assert {file.read_bytes() for file in first} == {mark}
    assert "(figures/leaderboard_nba.png)" in drawing.report()

    drawing.leave("two", right=0.5, digest=drawing.players())
    drawing.compare()
    assert {file.read_bytes() for file in of_run.iterdir()} == {mark}
    assert mark not in {file.read_bytes() for file in of_section.iterdir()}
    assert len(list(cache.iterdir())) == 3, "two runs and their section"
    shutil.rmtree(drawing.folder / "runs/two")
    shutil.rmtree(cache)
    drawing.compare()
    assert {file: file.read_bytes() for file in first} == first


def test_report_says_that_images_were_flipped(project: Project) -> None:
    labels = np.arange(40) % 10
    project.leave("cnn", base="fashion_cnn", y_true=labels)
    project.leave("dense", base="fashion_dense", y_true=labels, right=0.6)
    project.compare()
    flipped = "is evaluated on each image and its mirror image"
    assert f"* cnn {flipped}" in project.text()
    assert f"- **cnn** {flipped}" in project.report()
    assert "dense is" not in project.text()


def test_many_runs_are_listed_whole_and_shown_in_part(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tables, report):
        monkeypatch.setattr(module, "MAX_SHOWN", 4)
    y_prob = drawn(LABELS, 0.8, project.compose("nba_scratch"), 0)
    for number in range(6):
        project.leave(f"run_{number:02}", y_prob=y_prob)
    assert len(project.compare()) == 6
    assert len(project.table("pairs")) == 4 * 3 // 2
    assert "of the 4 best runs of 6" in project.report()


def test_underflowing_p_value_is_not_zero(project: Project) -> None:
    labels = np.arange(4000) % 2
    project.leave("good", y_true=labels, right=1.0)
    project.leave("bad", y_true=labels, right=0.0)
    project.compare()
    assert project.table("pairs")["p"].tolist() == [0.0]
    assert "< 1e-300" in project.report()


# -------------------------------------------------------------------------------------------- what is refused


def test_no_runs_are_refused(project: Project) -> None:
    with pytest.raises(DataError, match=r"expected finished runs in .*; found none; run `dvc repro`"):
        project.compare()
    project.runs.mkdir()
    with pytest.raises(DataError, match="found none"):
        project.compare()
    assert not project.reports.exists()


def test_missing_named_run_is_refused(project: Project) -> None:
    project.leave("one")
    assert len(project.compare(names=["one"])) == 1
    with pytest.raises(DataError, match=r"expected a finished run in .*/two; found no such folder"):
        project.compare(names=["one", "two"])


def change_metrics(run: Path, **changes: Any) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | changes))


FAULTS: dict[str, Callable[[Path], Any]] = {  # tests/training has every damage of every file
    "metrics.json": lambda run: (run / "metrics.json").write_text('{"valid/loss": 0.'),
    "history.csv": lambda run: (run / "history.csv").unlink(),
    "history.npz": lambda run: (run / "history.npz").unlink(),
    "predictions.npz": lambda run: change_metrics(run, **{"valid/accuracy": 0.1}),
    "record.json": lambda run: (run / "record.json").unlink(),
}


@pytest.mark.parametrize("file", FAULTS)
def test_broken_run_is_one_line_and_leaves_the_old_reports(project: Project, file: str) -> None:
    project.reports.mkdir()
    (project.reports / "earlier.json").write_text("of an earlier comparison")
    project.leave("whole")
    FAULTS[file](project.leave("broken"))
    with pytest.raises(DataError, match=rf"/broken/{file}: expected .*; train it again, or delete") as raised:
        project.compare()
    assert "\n" not in str(raised.value)
    assert [path.name for path in project.reports.iterdir()] == ["earlier.json"]


def test_disk_or_path_that_refuses_is_one_line(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.leave("one")
    project.reports.write_text("a file")
    with pytest.raises(SystemExit), exit_on_error():
        project.compare()
    with pytest.raises(SystemExit), exit_on_error():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), exit_on_error():
        (project.folder / "missing").read_text()
    assert capsys.readouterr().err.splitlines() == [
        f"error: expected to read or write {project.reports}; received: File exists",
        "error: expected to read or write a file; received: No space left on device",
    ]


@pytest.mark.parametrize("change", [{"confidence": 1}, {"resamples": 1}, {"bins": 0}, {"seed": -1}])
def test_unusable_settings_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"compare.{next(iter(change))}: expected"):
        config.compare(change)
    assert config.compare({}) == Compare()


def test_the_settings_of_the_suite_are_those_of_the_schema(root: Path) -> None:
    assert config.compare(yaml.safe_load((root / "params.yaml").read_text())["compare"]) == Compare()


# ------------------------------------------------------------------------------------------- the command line


def test_command_compares_the_runs_in_runs(
    project: Project, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.folder / "conf").symlink_to(root / "conf")
    (project.folder / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(project.folder)
    with pytest.raises(DataError, match="found none"):
        main(["compare.store=false"])
    project.leave("one")
    main(["compare.store=false", "compare.confidence=0.9"])
    printed = capsys.readouterr().out
    assert "90% interval" in printed
    assert "one " in printed
    assert not (project.reports / "seeds.csv").exists()
