"""What the page on Fashion-MNIST says of runs: which are seeds of one configuration, and what neighbours are."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from benchmarks import fashion_mnist
from twinnet.core.schema import Experiment
from twinnet.core.splits import Splits


def run(experiment: Experiment, accuracy: float) -> SimpleNamespace:
    metrics = {"test/accuracy": accuracy, "seconds": 2.0, "epochs": 8, "parameters": 10, "device": "cpu, bfloat16"}
    return SimpleNamespace(experiment=experiment, metrics=metrics)


def test_a_point_is_one_configuration_over_its_seeds(compose: Callable[..., Experiment]) -> None:
    plain = compose("fashion_dense")
    part = replace(plain, data=replace(plain.data, train_fraction=0.1))
    runs = [run(replace(plain, seed=seed), 0.88 + seed / 100) for seed in range(3)]
    points = fashion_mnist._points([*runs, run(part, 0.7)])
    assert [(len(point.runs), round(float(point.accuracies.mean()), 4)) for point in points] == [(1, 0.7), (3, 0.89)]
    table = fashion_mnist._table(points).splitlines()
    assert table[2].startswith("| fashion_dense | 10% | 70.00% | 10 | 2 | 0.25 | cpu, bfloat16 |")
    assert "89.00% ± 1.00% over 3 seeds (86.52 to 91.48)" in table[3]
    assert [fashion_mnist._grows(point, points) for point in points] == [True, True]


def test_neighbours_are_the_nearest_training_images() -> None:
    """Two clouds of images; the labels of the first are wrong where the test image lies."""
    random = np.random.default_rng(0)
    dark, bright = random.normal(0, 0.1, (12, 3, 3, 1)), random.normal(5, 0.1, (12, 3, 3, 1))
    labels = np.repeat([2, 7], 12)
    test = np.stack([np.zeros((3, 3, 1)), np.full((3, 3, 1), 5.0)])
    splits = Splits(
        np.concatenate([dark, bright]), labels, test, labels[:2], test, labels[:2], "mirror", "", *[np.ones(1)] * 2
    )
    np.testing.assert_array_equal(fashion_mnist.neighbours_say(splits, np.array([1, 0])), [7, 2])
