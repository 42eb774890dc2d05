"""What the best networks on Fashion-MNIST get wrong, and what an accuracy costs.

`python -m benchmarks.fashion_mnist outputs/*/*/*` reads finished runs, wherever they lie, and draws to build/bench/:
accuracy on the test split against seconds, parameters and training images, a point for the mean over the seeds of a
configuration, and the test images that all seeds of the most accurate experiment get wrong.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.neighbors import NearestNeighbors

from benchmarks.interleaved import BENCH, ROOT
from twinnet.compare.statistics import seeds_interval
from twinnet.core import config
from twinnet.core.errors import DataError
from twinnet.core.splits import Splits
from twinnet.figures import images, style
from twinnet.training.dataset import load_splits
from twinnet.training.run import Run, config_hash

NEIGHBOURS = 5


@dataclass(frozen=True)
class Point:
    """One configuration: its runs differ in the seed alone."""

    name: str
    runs: list[Run]

    @property
    def accuracies(self) -> np.ndarray:
        return np.array([run.metrics["test/accuracy"] for run in self.runs], dtype=float)

    def cost(self, key: str) -> float:
        """Of the cheapest seed: the others may have shared the machine."""
        return min(float(run.metrics[key]) for run in self.runs)

    @property
    def epoch_seconds(self) -> float:
        return min(float(run.metrics["seconds"]) / int(run.metrics["epochs"]) for run in self.runs)

    @property
    def training_images(self) -> int:
        return int(self.runs[0].info.data["samples"]["train"])

    @property
    def device(self) -> str:
        return str(self.runs[0].metrics["device"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fashion_mnist", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--figures", type=Path, default=BENCH, help="where the figures go")
    arguments = parser.parse_args()
    points = _points(_read(arguments.runs))
    if not points:
        parser.error("expected finished runs on Fashion-MNIST; found none")
    whole = [point for point in points if _fraction(point) == 1]
    print(_table(points))
    figures = {
        "seconds": costs(whole, "seconds", "seconds of training, the fastest seed", "accuracy and seconds"),
        "parameters": costs(whole, "parameters", "parameters", "accuracy and size"),
    }
    if growing := [point for point in points if _grows(point, points)]:
        figures["data"] = amounts(growing)
    for name, figure in figures.items():
        print(f"figure: {style.save(figure, arguments.figures / f'fashion_mnist_{name}.png')}")
    best = max((point for point in whole if len(point.runs) > 1), key=lambda p: p.accuracies.mean(), default=None)
    if best is not None:
        figure, text = mistakes(best)
        print(f"figure: {style.save(figure, arguments.figures / 'fashion_mnist_mistakes.png')}\n\n{text}")


def _read(folders: Sequence[Path]) -> list[Run]:
    found = []
    for folder in folders:
        run = Run(folder)
        try:
            if run.dataset == "fashion_mnist" and not run.is_synthetic and len(run.y_true) == 10_000:
                found.append(run)
        except DataError:
            continue
    return found


def _points(runs: Sequence[Run]) -> list[Point]:
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[config_hash(config.plain(run.experiment))].append(run)
    points = [Point(group[0].experiment.name, group) for group in groups.values()]
    return sorted(points, key=lambda point: point.accuracies.mean())


def _fraction(point: Point) -> float:
    return float(point.runs[0].experiment.data.train_fraction)


def _grows(point: Point, points: Sequence[Point]) -> bool:
    return any(other.name == point.name and _fraction(other) < 1 for other in points)


def _table(points: Sequence[Point]) -> str:
    lines = [
        "| experiment | training images | test accuracy | parameters | seconds of the fastest | of an epoch | device |",
        "| --- " * 7 + "|",
    ]
    for point in points:
        scores, spread = point.accuracies, ""
        if len(scores) > 1:
            low, high = seeds_interval(scores, 0.95)
            spread = f" ± {scores.std(ddof=1):.2%} over {len(scores)} seeds ({100 * low:.2f} to {100 * high:.2f})"
        lines.append(
            f"| {point.name} | {_fraction(point):.0%} | {scores.mean():.2%}{spread} | {point.cost('parameters'):,.0f} "
            f"| {point.cost('seconds'):.0f} | {point.epoch_seconds:.3g} | {point.device} |"
        )
    return "\n".join(lines)


@style.styled
def costs(points: Sequence[Point], key: str, label: str, title: str) -> Figure:
    """Accuracy against what it costs, one point an experiment, bars from the worst seed to the best."""
    figure = style.new_figure(7.2, 4.6, f"Fashion-MNIST, test split: {title}")
    axes = figure.add_subplot()
    for kind, colour, marker in (("cpu", style.BLUE, "o"), ("gpu", style.ORANGE, "s")):
        chosen = [point for point in points if point.device.startswith(kind)]
        if chosen:
            _dots(axes, [point.cost(key) for point in chosen], chosen, colour, marker, chosen[0].device)
    for point in points:
        axes.annotate(
            point.name,
            (point.cost(key), 100 * point.accuracies.mean()),
            (6, -3),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set(xscale="log", xlabel=label, ylabel="accuracy (%)")
    axes.margins(x=0.22, y=0.08)
    axes.legend(loc="lower right", title="device")
    return figure


@style.styled
def amounts(points: Sequence[Point]) -> Figure:
    """Accuracy against the number of training images, one line an experiment."""
    figure = style.new_figure(7.2, 4.2, "Fashion-MNIST, test split: accuracy and the amount of data")
    axes = figure.add_subplot()
    for colour, name in zip(style.PALETTE, sorted({point.name for point in points}), strict=False):
        line = sorted((point for point in points if point.name == name), key=_fraction)
        _dots(axes, [point.training_images for point in line], line, colour, "o-", name)
    axes.set(xscale="log", xlabel="training images", ylabel="accuracy (%)")
    axes.legend(loc="lower right")
    return figure


def _dots(axes, x: list[float], points: Sequence[Point], colour: str, marker: str, label: str) -> None:
    means = np.array([100 * point.accuracies.mean() for point in points])
    low, high = (np.array([100 * end(point.accuracies) for point in points]) for end in (np.min, np.max))
    axes.errorbar(x, means, [means - low, high - means], fmt=marker, color=colour, capsize=3, markersize=5, label=label)


def mistakes(point: Point) -> tuple[Figure, str]:
    """The test images that every seed gets wrong, beside the training images that are most like them."""
    experiment = point.runs[0].experiment
    splits = load_splits(experiment.data, root=ROOT)
    assert splits.X_test is not None
    assert splits.y_test is not None
    predicted = np.array([run.y_pred for run in point.runs])  # (seeds, samples)
    wrong = (predicted != splits.y_test).all(axis=0)
    agreed = wrong & (predicted == predicted[0]).all(axis=0)
    chosen = np.flatnonzero(wrong)
    votes = np.full(len(wrong), -1)
    votes[chosen] = neighbours_say(splits, chosen)
    right = np.flatnonzero((predicted == splits.y_test).all(axis=0))
    sample = np.random.default_rng(0).choice(right, len(chosen), replace=False)
    others = neighbours_say(splits, sample)
    otherwise, network = votes[chosen] != splits.y_test[chosen], votes[chosen] == predicted[0][chosen]
    classes = point.runs[0].classes
    sides: dict[tuple[str, str], int] = defaultdict(int)
    for i in np.flatnonzero(agreed):
        sides[tuple(sorted((classes[splits.y_test[i]], classes[predicted[0, i]])))] += 1
    common = sorted(sides.items(), key=lambda item: -item[1])[:4]
    text = "\n".join(
        [
            f"{point.name}: {wrong.sum()} of {len(wrong):,} test images are wrong with each of {len(point.runs)} "
            f"seeds, {agreed.sum()} of them with the same class.",
            f"The {NEIGHBOURS} nearest training images (by pixels) have mostly another label than the test image for "
            f"{otherwise.sum()} of them ({otherwise.mean():.0%}), and the label that the first seed predicts for "
            f"{network.sum()} ({network.mean():.0%}).",
            f"Of as many test images that all seeds get right, {np.mean(others != splits.y_test[sample]):.0%} have "
            "neighbours of another label.",
            "The pairs: " + ", ".join(f"{' and '.join(pair)} {count}" for pair, count in common) + ".",
        ]
    )
    sure = np.mean([run.y_prob for run in point.runs], axis=0)
    hardest = chosen[np.argsort(-sure[chosen].max(axis=1))][: images.ROWS * images.COLUMNS]
    captions = [
        f"{classes[splits.y_test[i]]}\nseeds: {classes[predicted[0, i]]}\nneighbours: {classes[votes[i]]}"
        for i in hardest
    ]
    title = f"Test images that every seed of {point.name} gets wrong, the surest first"
    return images.image_grid(splits.X_test[hardest], captions, title), text


def neighbours_say(splits: Splits, chosen: np.ndarray) -> np.ndarray:
    """The most frequent label among the nearest training images of some test images, by Euclidean distance."""
    assert splits.X_test is not None
    fitted = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(splits.X_train.reshape(len(splits.X_train), -1))
    found = fitted.kneighbors(splits.X_test[chosen].reshape(len(chosen), -1), return_distance=False)
    return np.array([np.bincount(labels, minlength=10).argmax() for labels in splits.y_train[found]])


if __name__ == "__main__":
    main()
