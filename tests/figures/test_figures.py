"""Figures: which ones a run has, what they say, that nothing is cut off or drawn over its title."""

import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from twinnet.compare import figures
from twinnet.compare.statistics import calibration
from twinnet.core.history import Chunk, History
from twinnet.core.provenance import SYNTHETIC_NOTE
from twinnet.core.schema import Experiment
from twinnet.core.splits import Splits
from twinnet.figures.classes import confusion_matrix, decision_boundary, residuals
from twinnet.figures.curves import MAJORITY, learning_curves
from twinnet.figures.images import hardest_pairs, mistake_grid, prediction_grid
from twinnet.figures.run import notes, run_figures, sample_grid
from twinnet.figures.style import FONTS, GREEN, RIGHT, WRONG, new_figure, save, save_all, styled

Compose = Callable[..., Experiment]
GARMENTS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def history(epochs: int = 5, metric: str = "accuracy") -> History:
    made = History(metric)
    length = -(-epochs // 1000)
    for start in range(0, epochs, length):
        count = min(length, epochs - start)
        made.append(Chunk(np.linspace(1, 0.5, count), np.linspace(0.5, 0.9, count), 0.6, 0.8))
    return made


def table_splits(source: str = "mirror", mean: float = 0.0, scale: float = 1.0) -> Splits:
    """Players of whom those with more rebounds than assists are forwards."""
    random = np.random.default_rng(0)
    X = random.gamma(2.0, 2.0, size=(60, 2))
    y = (X[:, 1] > X[:, 0]).astype(np.int64)
    centre, spread = np.full(2, mean), np.full(2, scale)
    scaled = (X - centre) / spread
    return Splits(scaled[:40], y[:40], scaled[40:], y[40:], None, None, source, "0" * 64, centre, spread)


def image_splits(source: str = "mirror") -> Splits:
    random = np.random.default_rng(1)
    X, y = random.random((80, 28, 28, 1), dtype=np.float32), np.arange(80) % 10
    zero, full = np.zeros(1), np.full(1, 255.0)
    return Splits(X[:40], y[:40], X[40:60], y[40:60], X[60:], y[60:], source, "0" * 64, zero, full)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def assert_well_laid_out(figure: Figure) -> None:
    """All axes with their words, and the notes, lie inside the picture and clear of the title and of each other."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    title, below = figure._suptitle, figure._supxlabel
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes] + (
        [below.get_window_extent(renderer)] if below else []
    )
    boxes = [legend.get_window_extent(renderer) for legend in figure.legends] + boxes
    boxes = [box for box in boxes if box is not None and box.width > 0]
    for box in [title.get_window_extent(renderer), *boxes]:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y1 <= figure.bbox.height + 1
    for box in boxes:
        assert not title.get_window_extent(renderer).overlaps(box.padded(-1))
    for box in boxes[:-1] if below else []:
        assert not boxes[-1].overlaps(box.padded(-1))
    for axes in figure.axes:
        if axes.images and not axes.axison:  # a grid of images under their captions
            shown = [item.get_window_extent(renderer) for item in (*axes.texts, *axes.images)]
            assert not any(one.overlaps(other) for one, other in combinations(shown, 2))


def test_run_on_two_features_has_curves_confusions_and_boundary(tmp_path: Path, compose: Compose) -> None:
    splits, experiment = table_splits(), compose("nba_scratch")
    predicted = rebounds_first(splits.X_valid)
    drawn = run_figures(experiment, splits, history(), splits.y_valid, predicted, rebounds_first)
    written = save_all(drawn, tmp_path / "figures")
    assert {path.name for path in written} == {"learning_curves.png", "confusion_matrix.png", "decision_boundary.png"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {path.name for path in written}
    for path in written:
        assert imread(path).std() > 0.05, path


def rebounds_first(X: np.ndarray) -> np.ndarray:
    """Forward where there are more rebounds than assists; (samples, 1)."""
    return 1 / (1 + np.exp(-(X[:, 1:] - X[:, :1])))


def test_run_on_images_has_samples_and_predictions(tmp_path: Path, compose: Compose) -> None:
    splits = image_splits()
    names = {"learning_curves.png", "confusion_matrix.png", "samples.png", "predictions.png"}
    for predicted, drawn in (
        (splits.y_test, names),
        (splits.y_test[::-1], names | {"hardest_pairs.png", "mistakes.png"}),
    ):
        y_prob = np.eye(10, dtype=np.float32)[predicted]
        of_run = run_figures(compose("fashion_dense"), splits, history(), splits.y_test, y_prob, lambda X: X)
        assert {path.name for path in save_all(of_run, tmp_path)} == drawn


def test_run_of_regression_has_residuals(compose: Compose) -> None:
    experiment = compose("nba_scratch", "data.task=regression", "data.classes=null", "data.target=ppg")
    splits, made = table_splits(), history(metric="mae")
    drawn = run_figures(experiment, splits, made, splits.y_valid.astype(float), splits.X_valid[:, :1], len)
    assert set(drawn) == {"learning_curves", "residuals"}


def test_three_features_have_no_boundary(compose: Compose) -> None:
    experiment = compose("nba_scratch", "data.features=[apg,rpg,ppg]")
    splits = table_splits()
    drawn = run_figures(experiment, splits, history(), splits.y_valid, rebounds_first(splits.X_valid), len)
    assert "decision_boundary" not in drawn


def test_same_run_is_the_same_bytes_under_any_matplotlibrc(tmp_path: Path, compose: Compose) -> None:
    splits, experiment = table_splits(), compose("nba_scratch")

    def draw(folder: str) -> list[bytes]:
        predicted = rebounds_first(splits.X_valid)
        drawn = run_figures(experiment, splits, history(), splits.y_valid, predicted, rebounds_first)
        return [path.read_bytes() for path in save_all(drawn, tmp_path / folder)]

    plain = draw("plain")
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.dpi": 30, "savefig.bbox": "tight"}):
        before = dict(mpl.rcParams)
        assert draw("styled") == plain
        assert dict(mpl.rcParams) == before


def test_boundary_is_drawn_in_the_units_of_the_features() -> None:
    splits = table_splits(mean=3.0, scale=2.0)
    asked: list[np.ndarray] = []

    def predict(X: np.ndarray) -> np.ndarray:
        asked.append(X)
        return rebounds_first(X)

    figure = decision_boundary(splits, predict, ["guard", "forward"], ["assists per game", "rebounds per game"], "t")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("assists per game", "rebounds per game")
    line = next(item for item in axes.collections if isinstance(item, ContourSet)).get_paths()[0].vertices
    np.testing.assert_allclose(line[:, 0], line[:, 1], atol=0.05)  # more rebounds than assists, unscaled
    assert asked[0].min() < 0, "the network is asked about scaled features"
    drawn = np.vstack([item.get_offsets() for item in axes.collections if isinstance(item, PathCollection)])
    X = np.vstack([splits.X_train, splits.X_valid]) * 2.0 + 3.0
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(X, axis=0))
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    sides = {f"{name} ({side})" for name in ("guard", "forward") for side in ("training", "validation")}
    assert legend == sides | {"probability 0.5"}
    assert_well_laid_out(figure)


def test_constant_network_has_no_boundary() -> None:
    figure = decision_boundary(
        table_splits(), lambda X: np.full((len(X), 1), 0.9), ["guard", "forward"], ["a", "b"], "constant"
    )
    assert "probability 0.5" not in texts(figure)
    assert_well_laid_out(figure)


def test_three_classes_share_the_plane() -> None:
    splits = table_splits()
    splits = Splits(**{**splits.__dict__, "y_train": np.arange(40) % 3, "y_valid": np.arange(20) % 3})

    def predict(X: np.ndarray) -> np.ndarray:
        raw = np.exp(np.column_stack([X, np.full(len(X), 3.0)]))
        return raw / raw.sum(axis=1, keepdims=True)

    figure = decision_boundary(splits, predict, ["guard", "forward", "centre"], ["a", "b"], "three")
    assert {"centre (training)", "the boundary"} <= set(texts(figure).splitlines())
    assert_well_laid_out(figure)


def test_figures_say_that_data_are_synthetic_or_a_run_degenerate(compose: Compose) -> None:
    assert notes("mirror", compose("nba_scratch")) == []
    said = notes("synthetic", compose("nba_keras_book"))
    assert said[0] == SYNTHETIC_NOTE
    assert "does not learn" in said[1]
    splits, images = table_splits("synthetic"), image_splits("synthetic")
    y_pred = np.zeros(20, dtype=int)
    drawn = [
        learning_curves(history(), "curves", said),
        confusion_matrix(splits.y_valid, y_pred, ["guard", "forward"], "confusion", said),
        decision_boundary(splits, rebounds_first, ["guard", "forward"], ["a", "b"], "boundary", said),
        sample_grid(images.X_train, images.y_train, GARMENTS, "samples", said),
        prediction_grid(images.X_test, images.y_test, y_pred, GARMENTS, "predictions", said),
        residuals(splits.X_valid[:, 0], splits.X_valid[:, 1], "residuals", said),
    ]
    for figure in drawn:
        flat = " ".join(texts(figure).split())
        assert SYNTHETIC_NOTE in flat
        assert "does not learn" in flat
        assert_well_laid_out(figure)


def test_confusions_are_counted_by_true_class() -> None:
    figure = confusion_matrix(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["guard", "forward"], "c")
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == ["2\n67%", "1\n33%", "0", "1\n100%"]
    rare = confusion_matrix(np.zeros(200, int), np.arange(200) // 199, ["guard", "forward"], "c")
    assert [text.get_text() for text in rare.axes[0].texts] == ["199\n100%", "1\n<1%", "0", "0"]
    assert_well_laid_out(figure)
    ten = confusion_matrix(np.arange(10), np.arange(10), GARMENTS, "fashion_dense_scratch: 100.00% right, test split")
    assert_well_laid_out(ten)


def test_predictions_are_titled_in_green_or_red() -> None:
    splits = image_splits()
    y_pred = splits.y_test.copy()
    y_pred[3] = 9
    figure = prediction_grid(splits.X_test, splits.y_test, y_pred, GARMENTS, "predictions")
    (axes,) = figure.axes
    titles = axes.texts
    assert len(titles) == len(axes.images) == 15
    assert titles[3].get_text() == f"Ankle boot\n({GARMENTS[splits.y_test[3]]})"
    assert [title.get_color() for title in titles] == [WRONG if i == 3 else RIGHT for i in range(15)]
    np.testing.assert_array_equal(axes.images[3].get_array(), splits.X_test[3, ..., 0])
    assert_well_laid_out(figure)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_of_fewer_than_fifteen_images(channels: int) -> None:
    figure = sample_grid(np.random.default_rng(0).integers(0, 255, (4, 8, 8, channels)), np.arange(4), GARMENTS)
    assert [text.get_text() for text in figure.axes[0].texts] == GARMENTS[:4]
    assert_well_laid_out(figure)


@pytest.mark.parametrize(("epochs", "scale"), [(1, "linear"), (5, "linear"), (100_000, "log")])
def test_long_runs_have_a_logarithmic_axis(epochs: int, scale: str) -> None:
    figure = learning_curves(history(epochs), "curves")
    for axes in figure.axes:
        assert axes.get_xscale() == scale
        assert scale == "log" or all(tick == round(tick) for tick in axes.get_xticks())
        train, valid = axes.lines
        assert len(train.get_xdata()) == epochs or len(train.get_xdata()) < 5000
        values = history(epochs).arrays()[f"train/{axes.get_title()}"]
        assert train.get_ydata().max() == values.max()
        assert train.get_ydata().min() == values.min()
        assert train.get_xdata()[0] == 1
        assert valid.get_xdata()[-1] == epochs
    assert_well_laid_out(figure)


def test_figures_of_a_comparison_are_well_laid_out() -> None:
    random = np.random.default_rng(0)
    runs = ["nba_scratch", "nba_keras", "nba_keras_book", "a_run_with_a_rather_long_name", "e", "f"]
    y_true, y_prob = random.integers(10, size=200), random.dirichlet(np.ones(10), 200)
    board = pd.DataFrame({"experiment": runs, "accuracy": 0.8, "mae": 1.5, "low": 0.7, "high": 0.9, "confidence": 0.95})
    board["majority"] = 0.75
    colours = figures.run_colours(runs)
    scores = pd.DataFrame(
        [{"experiment": r, "class": c, "precision": 0.5, "recall": 1.0, "f1": 2 / 3} for r in runs for c in GARMENTS]
    )
    images = random.random((200, 28, 28, 1))
    drawn = [
        figures.intervals(board, "accuracy", "leaderboard", colours, [SYNTHETIC_NOTE]),
        figures.intervals(board[:1], "mae", "leaderboard", colours),
        figures.curves(dict.fromkeys(runs, history()), "accuracy", "curves", colours, [SYNTHETIC_NOTE], 0.5),
        figures.reliability(
            dict.fromkeys(runs, calibration(y_true, y_prob, 10)), "calibration", colours, [SYNTHETIC_NOTE]
        ),
        figures.reliability(dict.fromkeys(runs[:4], calibration(y_true, y_prob, 10)), "calibration", colours),
        figures.class_scores(scores, "ten classes", [SYNTHETIC_NOTE]),
        figures.class_scores(scores[scores["class"].isin(GARMENTS[:2])], "two classes", [SYNTHETIC_NOTE]),
        mistake_grid(images, y_true, y_prob, GARMENTS, "mistakes", [SYNTHETIC_NOTE]),
    ]
    for figure in drawn:
        assert_well_laid_out(figure)


def test_the_surest_mistakes_come_first() -> None:
    y_true = np.array([0, 0, 1, 1])
    y_prob = np.array([[0.3], [0.8], [0.9999], [0.1]])  # wrong: the second at 80%, the fourth at 90%
    images = np.arange(4.0).reshape(4, 1, 1, 1) * np.ones((4, 2, 2, 1))
    figure = mistake_grid(images, y_true, y_prob, ["cat", "dog"], "mistakes")
    assert [text.get_text() for text in figure.axes[0].texts] == ["cat, 90.0%\n(dog)", "dog, 80.0%\n(cat)"]
    assert figure.axes[0].images[0].get_array().mean() == 3


def test_hardest_pairs_are_counted_in_both_directions() -> None:
    classes = ["cat", "dog", "fox"]
    y_true = np.array([0, 0, 1, 1, 1, 2, 2, 0])
    y_pred = np.array([2, 2, 0, 0, 1, 0, 2, 0])  # cat and fox: 2 + 1; cat and dog: 0 + 2; dog and fox: none
    sure = np.array([0.6, 0.9, 0.8, 0.7, 1, 0.95, 1, 1])
    y_prob = np.where(np.eye(3)[y_pred] == 1, sure[:, None], (1 - sure[:, None]) / 2)
    images = np.arange(8.0).reshape(8, 1, 1, 1) * np.ones((8, 2, 2, 1))
    figure = hardest_pairs(images, y_true, y_prob, classes, "hardest pairs", [SYNTHETIC_NOTE])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [
        *("cat\nfox", "3 mistakes:\n2 cat as fox\n1 fox as cat"),
        *("cat, 95.0%\n(fox)", "fox, 90.0%\n(cat)", "fox, 60.0%\n(cat)"),
        *("cat\ndog", "2 mistakes:\n0 cat as dog\n2 dog as cat", "cat, 80.0%\n(dog)", "cat, 70.0%\n(dog)"),
    ]
    assert [image.get_array().mean() for image in axes.images] == [5, 1, 0, 2, 3]
    assert_well_laid_out(figure)


def test_names_of_runs_cover_no_point_and_no_other_name() -> None:
    board = pd.DataFrame(
        {
            "experiment": ["one", "another", "a_run_with_a_rather_long_name", "first_twin", "second_twin", "largest"],
            "parameters": [20_000, 20_500, 21_000, 300_000, 300_000, 1_000_000],
            "accuracy": [0.900, 0.901, 0.902, 0.75, 0.75, 0.94],
            "low": [0.894, 0.895, 0.896, 0.74, 0.74, 0.935],
            "high": [0.906, 0.907, 0.908, 0.76, 0.76, 0.945],
            "confidence": 0.95,
        }
    )
    figure = figures.parameters(board, "accuracy and size", figures.run_colours(board["experiment"]), [SYNTHETIC_NOTE])
    assert_well_laid_out(figure)
    axes = figure.axes[0]
    names = {label.get_text(): Text.get_window_extent(label) for label in axes.texts}
    assert set(names) == {"one", "another", "a_run_with_a_rather_long_name", "first_twin\nsecond_twin", "largest"}
    points = axes.transData.transform(board[["parameters", "accuracy"]])
    for name, box in names.items():
        assert box.count_overlaps(names.values()) == 1, f"{name} covers another name"
        assert box.count_contains(points) == 0, f"{name} covers a point"
        assert axes.bbox.count_contains(box.corners()) == 4, f"{name} leaves the axes"


def test_run_has_the_same_colour_in_every_figure() -> None:
    runs = ["one", "two", "three"]
    colours = figures.run_colours(runs)
    assert colours == figures.run_colours(runs[::-1])
    board = pd.DataFrame(
        {"experiment": runs, "accuracy": 0.8, "low": 0.7, "high": 0.9, "confidence": 0.95, "majority": 0.1}
    )
    drawn = [
        figures.intervals(board, "accuracy", "leaderboard", colours).axes[0].lines[::3],
        figures.curves(dict.fromkeys(runs, history()), "accuracy", "curves", colours).axes[0].lines,
    ]
    for lines in drawn:
        assert [line.get_color() for line in lines] == [colours[name] for name in runs]


def test_run_has_its_own_colour_in_its_own_figures() -> None:
    for axes in learning_curves(history(), "curves", colour=GREEN).axes:
        assert [line.get_color() for line in axes.lines] == [GREEN, GREEN]
    left, right = residuals(np.arange(9.0), np.arange(9.0) + 0.5, "residuals", colour=GREEN).axes
    assert to_hex(left.collections[0].get_facecolor()[0]) == to_hex(right.patches[0].get_facecolor()) == GREEN.lower()


def test_curves_name_unit_and_epochs_between_validations() -> None:
    figure = learning_curves(history(3000, "mae"), "curves", unit="points per game")
    assert "mean absolute error in points per game (logarithmic)" in texts(figure)
    assert "validation, every 3 epochs" in texts(figure)
    assert_well_laid_out(figure)


@pytest.mark.parametrize(("majority", "is_drawn"), [(0.55, True), (0.1, False)])
def test_most_frequent_class_is_a_line_where_it_fits(majority: float, is_drawn: bool) -> None:
    drawn = (
        learning_curves(history(), "curves", majority=majority),
        figures.curves({"one": history(3000)}, "accuracy", "curves", majority=majority),
    )
    for figure in drawn:
        assert (MAJORITY in texts(figure)) == is_drawn


def test_curves_begin_at_the_first_epoch() -> None:
    for epochs in (5, 3000):  # validated after each, after every third
        for axes in figures.curves({"one": history(epochs)}, "accuracy", "curves").axes:
            starts = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata())]
            assert min(starts) == 1


def test_loss_of_rounding_errors_is_a_line_at_zero() -> None:
    made = History()
    made.append(Chunk(np.full(2, 6.1e-8), np.full(2, 0.5), 6.4e-8, 0.5))
    assert learning_curves(made, "curves").axes[0].get_ylim() == (-0.05, 0.05)


def test_loss_of_a_degenerate_run_is_left_out() -> None:
    figure = figures.curves(dict.fromkeys(["one", "bad"], history()), "accuracy", "curves", degenerate=["bad"])
    assert [len(axes.lines) for axes in figure.axes] == [1, 2]


def test_errors_fall_on_a_logarithmic_axis() -> None:
    errors = history(metric="mae")
    for figure in (learning_curves(errors, "curves"), figures.curves({"one": errors}, "mae", "curves")):
        assert [axes.get_yscale() for axes in figure.axes] == ["log", "log"]
        assert_well_laid_out(figure)


def test_calibration_has_no_empty_panel_and_marks_small_bins() -> None:
    y_true, y_prob = np.zeros(30, dtype=int), np.r_[np.full(25, 0.1), np.full(5, 0.3)][:, None]
    bins = calibration(y_true, y_prob, 10)
    for count, panels in ((1, 1), (5, 5), (6, 6), (7, 7)):
        runs = [f"run_{number}" for number in range(count)]
        figure = figures.reliability(dict.fromkeys(runs, bins), "calibration", figures.run_colours(runs))
        assert len(figure.axes) == panels
        assert "hollow dots have fewer than 10 samples" in texts(figure).replace("\n", " ")
        assert_well_laid_out(figure)


def test_half_a_percent_of_a_class_is_not_nothing() -> None:
    y_true, y_pred = np.zeros(1000, int), np.repeat([1, 0], [5, 995])
    assert "5\n<1%" in texts(confusion_matrix(y_true, y_pred, ["one", "other"], "a title"))


@pytest.mark.skipif(len(FONTS) == 1, reason="needs a font with Chinese characters, e.g. fonts-noto-cjk")
def test_chinese_characters_are_drawn_and_not_boxes(tmp_path: Path) -> None:
    first, second = (imread(save(styled(new_figure)(3, 1, character), tmp_path / "figure.png")) for character in "前後")
    assert (first != second).any()


def test_without_a_chinese_font_one_line_says_so(tmp_path: Path) -> None:
    code = """
from matplotlib import font_manager
font_manager.fontManager.get_font_names = lambda: ["DejaVu Sans"]
from pathlib import Path
from twinnet.figures.style import new_figure, save
for title in ("前鋒與後衛", "決策邊界", "a title"):
    save(new_figure(3, 1, title), Path("figure.png"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "figures: expected a font with Chinese characters; found none; install one, e.g. fonts-noto-cjk"
    ]
