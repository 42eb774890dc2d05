"""Comparing finished runs: what is claimed, what is refused, what is left in reports/."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from scipy.stats import binomtest

from tests.processed import write_arrays
from twinnet.compare import compare, leaderboard_text
from twinnet.compare.__main__ import main
from twinnet.compare.tables import NO_DIFFERENCE
from twinnet.core import config, rules
from twinnet.core.errors import ConfigError, DataError
from twinnet.core.metrics import compute_metrics
from twinnet.core.schema import Compare, Experiment, ImageData, Task

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
        y_prob: np.ndarray | None = None, source: str = "mirror", device: str = "cpu", seed: int = 0,
    ) -> Path:  # fmt: skip
        """A run directory as training leaves it."""
        experiment = replace(self.compose(base, *overrides), name=name)
        if y_prob is None:
            y_prob = drawn(y_true, right, experiment, seed)
        directory = self.runs / name
        directory.mkdir(parents=True)
        task = experiment.data.task
        scored = compute_metrics(task, rules.loss(experiment), y_true, y_prob)
        split = "test" if isinstance(experiment.data, ImageData) else "valid"
        metrics = {f"{part}/{key}": value for part in {"train", "valid", split} for key, value in scored.items()}
        metrics |= {"epochs": 2, "seconds": 1.5, "parameters": 17, "data_source": source, "device": device}
        (directory / "metrics.json").write_text(json.dumps(metrics))
        (directory / "config.yaml").write_text(yaml.safe_dump(config.plain(experiment)))
        metric = "mae" if task is Task.regression else "accuracy"
        rows = {key: [1.0, 0.5] for key in ("train/loss", f"train/{metric}", "valid/loss", f"valid/{metric}")}
        pd.DataFrame({"epoch": [1, 2]} | rows).to_csv(directory / "history.csv", index=False)
        np.savez_compressed(directory / "predictions.npz", y_true=y_true, y_prob=y_prob)
        return directory

    def compare(self, settings: Compare = QUICK, **options: Any) -> pd.DataFrame:
        compare(self.runs, self.reports, settings, root=self.folder, **options)
        return pd.read_csv(self.reports / "comparison.csv")

    def images(self, labels: np.ndarray) -> None:
        """data/ of a Fashion-MNIST whose image of sample i is i everywhere."""
        pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), dtype=np.uint8)
        test, train = {"X_test": pixels, "y_test": labels.astype(np.uint8)}, np.arange(5010)
        blank = {"X_train": np.zeros((len(train), 28, 28), np.uint8), "y_train": (train % 10).astype(np.uint8)}
        write_arrays(self.folder, "fashion_mnist", blank | test, "mirror")


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


@pytest.fixture(scope="session")
def composed(compose: Callable[..., Experiment]) -> Callable[..., Experiment]:
    """`compose`, which takes a good part of a second, once for each question."""
    return cache(compose)


@pytest.fixture
def drawing(tmp_path: Path, composed: Callable[..., Experiment]) -> Project:
    """A project whose figures are really drawn."""
    return Project(tmp_path, composed)


@pytest.fixture
def project(drawing: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose figures are made but left empty, which is ten times as fast; test_figures.py looks at them."""

    def touch(figure: Figure, path: Path) -> Path:
        path.touch()
        return path

    monkeypatch.setattr("twinnet.compare.write.save", touch)
    return drawing


# ------------------------------------------------------------------------------------------- the leaderboard


def test_runs_are_ordered_by_data_set_and_score_with_wilsons_interval(project: Project) -> None:
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


def test_equally_accurate_runs_stand_in_the_order_of_their_loss(project: Project) -> None:
    sure, unsure = np.where(LABELS == 1, 0.95, 0.05)[:, None], np.where(LABELS == 1, 0.6, 0.4)[:, None]
    project.leave("a_unsure", y_prob=unsure)
    project.leave("b_sure", y_prob=sure)
    assert project.compare()["experiment"].tolist() == ["b_sure", "a_unsure"]


def test_stand_ins_are_set_apart_and_never_paired_with_real_data(project: Project) -> None:
    project.leave("real", right=0.6)
    project.leave("pretended", right=0.99, source="synthetic")
    board = project.compare()
    assert board["experiment"].tolist() == ["real", "pretended"]
    assert board["stand_in"].tolist() == [False, True]
    assert pd.read_csv(project.reports / "pairs.csv").empty
    report = (project.reports / "comparison.md").read_text()
    assert report.index("| real |") < report.index("# On stand-in data") < report.index("| pretended |")
    text = leaderboard_text(project.reports)
    assert text.index("real ") < text.index("STAND-IN") < text.index("pretended ")
    assert (project.reports / "figures/leaderboard_nba_stand_in.png").is_file()


def test_a_run_that_cannot_learn_is_marked(project: Project) -> None:
    project.leave("fine")
    project.leave("degenerate", base="nba_keras_book")
    board = project.compare().set_index("experiment")
    assert "does not learn" in board.loc["degenerate", "note"]
    assert pd.isna(board.loc["fine", "note"])
    assert "| degenerate (degenerate) |" in (project.reports / "comparison.md").read_text()
    assert "* degenerate does not learn" in leaderboard_text(project.reports)


def test_regression_has_its_own_table_with_a_bootstrap_interval(project: Project) -> None:
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
    of_classes, _, of_regression = (project.reports / "comparison.md").read_text().partition("## nba, regression")
    assert "(figures/leaderboard_nba.png)" in of_classes
    assert "(figures/leaderboard_nba_regression.png)" in of_regression
    assert {"leaderboard_nba.png", "leaderboard_nba_regression.png"} <= {
        path.name for path in (project.reports / "figures").iterdir()
    }
    assert not (project.reports / "plots/confusion/near.csv").exists()


def test_the_printed_leaderboard_fits_a_terminal(project: Project) -> None:
    project.leave("a_run_whose_name_is_longer_than_any_column", device="gpu: NVIDIA H100 80GB HBM3", right=1.0)
    for seed in range(5):
        project.leave(f"another_run_with_a_long_name_{seed}", "engine=keras", right=0.8, seed=seed)
    project.compare()
    text = leaderboard_text(project.reports)
    assert max(map(len, text.splitlines())) <= 100
    assert "100.00%" in text
    with pytest.raises(DataError, match="dvc repro compare"):
        leaderboard_text(project.folder / "elsewhere")


# ------------------------------------------------------------------------------------------------- the pairs


def test_a_difference_is_claimed_only_where_it_is_shown(project: Project) -> None:
    same = np.where(LABELS == 1, 0.9, 0.1)[:, None]
    same[:60] = 1 - same[:60]
    project.leave("twin_a", y_prob=same)
    project.leave("twin_b", y_prob=same)
    project.leave("worse", right=0.55)
    project.compare()
    pairs = pd.read_csv(project.reports / "pairs.csv")
    verdicts = {(row.first, row.second): row.verdict for row in pairs.itertuples()}
    assert verdicts == {
        ("twin_a", "twin_b"): NO_DIFFERENCE,
        ("twin_a", "worse"): "twin_a is better",
        ("twin_b", "worse"): "twin_b is better",
    }
    assert (pairs["p_corrected"] >= pairs["p"]).all()
    assert f"| {NO_DIFFERENCE} |" in (project.reports / "comparison.md").read_text()
    assert "no difference shown in 1 of 3 pairs: twin_a and twin_b" in leaderboard_text(project.reports)


def test_runs_that_predicted_other_samples_are_not_paired(project: Project) -> None:
    project.leave("one")
    project.leave("two")
    project.leave("other_season", y_true=LABELS[::-1].copy())
    project.compare()
    pairs = pd.read_csv(project.reports / "pairs.csv")
    assert [(row.first, row.second) for row in pairs.itertuples()] == [("one", "two")]
    assert "2 pairs are not compared" in (project.reports / "comparison.md").read_text()


def test_a_stricter_confidence_widens_the_intervals(project: Project) -> None:
    project.leave("one")
    wide, narrow = project.compare(Compare(confidence=0.99)), project.compare(Compare(confidence=0.5))
    assert wide["low"][0] < narrow["low"][0] < narrow["high"][0] < wide["high"][0]


# ------------------------------------------------------------------------------------------ what is left behind


def test_the_same_runs_leave_the_same_bytes(drawing: Project) -> None:
    drawing.leave("one")
    drawing.leave("two", right=0.5)

    def files() -> dict[str, bytes]:
        found = (path for path in drawing.reports.rglob("*") if path.is_file())
        return {str(path.relative_to(drawing.reports)): path.read_bytes() for path in found}

    drawing.compare()
    first = files()
    drawing.compare()
    assert files() == first
    assert {"comparison.csv", "comparison.md", "metrics.json", "plots/calibration/one.csv"} <= set(first)


def test_a_run_that_is_gone_leaves_no_figure_and_other_files_stay(project: Project) -> None:
    project.leave("one")
    gone = project.leave("gone", "data.name=fashion_mnist", base="fashion_dense", y_true=np.arange(40) % 10)
    project.compare()
    (project.reports / "notes.txt").write_text("mine")
    assert (project.reports / "figures/leaderboard_fashion_mnist.png").is_file()
    shutil.rmtree(gone)
    project.compare()
    assert not list((project.reports / "figures").glob("*fashion*"))
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
    metrics = json.loads((project.reports / "metrics.json").read_text())["one"]
    assert metrics["accuracy"] == pytest.approx(right / len(LABELS), abs=1e-6)
    bins = pd.read_csv(project.reports / "plots/calibration/one.csv")
    assert bins["samples"].sum() == len(LABELS)
    gap = np.average((bins["accuracy"] - bins["confidence"]).abs(), weights=bins["samples"])
    assert metrics["ece"] == pytest.approx(gap, abs=1e-5)


def test_scores_of_each_class(project: Project) -> None:
    y_prob = np.where(LABELS == 1, 0.9, 0.1)[:, None].copy()
    missed = np.flatnonzero(LABELS == 1)[:10]
    y_prob[missed] = 0.1
    project.leave("one", y_prob=y_prob)
    project.compare()
    rows = pd.read_csv(project.reports / "per_class.csv").set_index("class")
    ones, zeros = int((LABELS == 1).sum()), int((LABELS == 0).sum())
    assert rows.loc["forward", ["precision", "recall"]].tolist() == pytest.approx([1, (ones - 10) / ones])
    assert rows.loc["guard", ["precision", "recall"]].tolist() == pytest.approx([zeros / (zeros + 10), 1])
    assert rows["samples"].to_dict() == {"guard": zeros, "forward": ones}


def test_accuracy_is_drawn_against_size_where_sizes_differ(project: Project) -> None:
    small = project.leave("small")
    project.leave("large")
    picture = project.reports / "figures/parameters_nba.png"
    project.compare()
    assert not picture.exists()
    spoil_json(small, parameters=5)
    project.compare()
    assert picture.is_file()
    assert "(figures/parameters_nba.png)" in (project.reports / "comparison.md").read_text()


def test_mistakes_are_drawn_from_the_images_that_were_predicted(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.arange(40) % 10
    picture = project.reports / "figures/mistakes_garments.png"
    garments = ("data.valid_samples=40",)
    project.leave("garments", *garments, base="fashion_dense", y_true=labels, right=0.5)
    project.leave("flawless", *garments, base="fashion_dense", y_true=labels, right=1.0)
    project.leave("players")
    project.compare()
    assert not picture.exists()
    assert "garments: its mistakes are not drawn" in caplog.text
    caplog.clear()
    project.images(labels)
    project.compare()
    assert caplog.text == ""
    assert picture.is_file()
    assert not picture.with_name("mistakes_flawless.png").exists()
    project.images(labels[::-1].copy())
    project.compare()
    assert not picture.exists()
    assert "predicted other images" in caplog.text


# -------------------------------------------------------------------------------------------- what is refused


def test_no_runs_at_all(project: Project) -> None:
    with pytest.raises(DataError, match=r"expected finished runs in .*; found none; run `dvc repro`"):
        project.compare()
    project.runs.mkdir()
    with pytest.raises(DataError, match="found none"):
        project.compare()
    assert not project.reports.exists()


def test_a_run_that_is_asked_for_and_missing(project: Project) -> None:
    project.leave("one")
    assert len(project.compare(names=["one"])) == 1
    with pytest.raises(DataError, match=r"expected the run .*/two; found none; run `dvc repro train@two`"):
        project.compare(names=["one", "two"])


def spoil_json(run: Path, **changes: Any) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({k: v for k, v in (metrics | changes).items() if v != "gone"}))


def spoil_predictions(run: Path, **arrays: Any) -> None:
    with np.load(run / "predictions.npz") as saved:
        kept = dict(saved)
    np.savez(run / "predictions.npz", **(kept | arrays))


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no metrics": (lambda run: (run / "metrics.json").unlink(), "expected metrics.json; found none"),
    "no history": (lambda run: (run / "history.csv").unlink(), "expected history.csv; found none"),
    "no predictions": (lambda run: (run / "predictions.npz").unlink(), "expected predictions.npz; found none"),
    "no configuration": (lambda run: (run / "config.yaml").unlink(), "expected config.yaml; found none"),
    "cut JSON": (lambda run: (run / "metrics.json").write_text('{"valid/loss": 0.'), "expected a readable run"),
    "JSON of a list": (lambda run: (run / "metrics.json").write_text("[1]"), "expected names and values"),
    "cut archive": (lambda run: (run / "predictions.npz").write_bytes(b"PK\x03\x04cut"), "expected a readable run"),
    "a pickle": (lambda run: spoil_predictions(run, y_prob=np.array([{}], dtype=object)), "expected a readable run"),
    "no y_prob": (lambda run: np.savez(run / "predictions.npz", y_true=LABELS), "expected a readable run"),
    "empty history": (lambda run: (run / "history.csv").write_text(""), "expected a readable run"),
    "history of nothing": (lambda run: (run / "history.csv").write_text("epoch\n1\n"), "history.csv: expected rows"),
    "not a configuration": (lambda run: (run / "config.yaml").write_text("- 1\n"), "expected a readable run"),
    "a wrong value": (lambda run: (run / "config.yaml").write_text("name: [x\n"), "expected a readable run"),
    "no score": (lambda run: spoil_json(run, **{"valid/accuracy": "gone"}), "expected a number for valid/accuracy"),
    "a loss of NaN": (lambda run: spoil_json(run, **{"valid/loss": float("nan")}), "expected a number for valid/loss"),
    "no source": (lambda run: spoil_json(run, data_source="gone"), "expected data_source"),
    "another accuracy": (lambda run: spoil_json(run, **{"valid/accuracy": 0.1}), "as metrics.json says"),
    "too few predictions": (lambda run: spoil_predictions(run, y_prob=np.full((3, 1), 0.5)), "received (400,)"),
    "too many units": (lambda run: spoil_predictions(run, y_prob=np.full((400, 3), 0.3)), "(samples, 1)"),
    "no samples": (lambda run: spoil_predictions(run, y_prob=np.empty((0, 1)), y_true=LABELS[:0]), "received (0,)"),
    "NaN": (lambda run: spoil_predictions(run, y_prob=np.full((400, 1), np.nan)), "expected finite numbers"),
    "a third class": (lambda run: spoil_predictions(run, y_true=LABELS + 1), "expected labels 0 to 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_run_is_one_line_that_names_it_and_leaves_the_old_reports(project: Project, fault: str) -> None:
    project.reports.mkdir()
    (project.reports / "comparison.csv").write_text("what was found before\n")
    project.leave("whole")
    run = project.leave("broken")
    spoil, said = FAULTS[fault]
    spoil(run)
    with pytest.raises(DataError) as raised:
        project.compare()
    message = str(raised.value)
    assert said in message
    assert "broken" in message
    assert "`dvc repro train@broken`" in message
    assert "\n" not in message
    assert [path.name for path in project.reports.iterdir()] == ["comparison.csv"]


@pytest.mark.parametrize("change", [{"confidence": 1}, {"resamples": 1}, {"bins": 0}, {"seed": -1}])
def test_settings_that_cannot_be_used(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"compare.{next(iter(change))}: expected"):
        config.compare(change)
    assert config.compare({}) == Compare()


def test_the_settings_of_the_suite_are_those_of_the_schema(root: Path) -> None:
    assert config.compare(yaml.safe_load((root / "params.yaml").read_text())["compare"]) == Compare()


# ------------------------------------------------------------------------------------------- the command line


def test_the_command_compares_what_lies_in_runs(
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
