"""Figures of a sweep: sorted and logarithmic axes, labels that do not overlap, no line across categories."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from twinnet.sweeps import figures

RATES, UNITS = ("0.1", "0.001", "0.11", "1", "0.01"), ("[16]", "[2]", "[8,8]")


@pytest.fixture
def done() -> pd.DataFrame:
    rows = [{"seed": seed, "rate": rate, "units": units} for seed, rate, units in product("012", RATES, UNITS)]
    return pd.DataFrame(rows).assign(**{"valid/loss": np.linspace(0.3, 0.5, len(rows))})


def assert_labels_apart(figure: Figure) -> None:
    figure.canvas.draw()
    for axes in figure.axes:
        texts = [text for text in (*axes.texts, *axes.get_xticklabels()) if text.get_text()]
        boxes = [text.get_window_extent() for text in texts]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_effects_are_sorted_without_lines_across_categories(done: pd.DataFrame) -> None:
    figure = figures.effects(done, ["seed", "rate", "units"], "valid/loss")
    seed, rate, units = figure.axes
    assert [axes.lines[-1].get_linestyle() for axes in (seed, rate, units)] == ["None", "-", "None"]
    assert (rate.get_xscale(), seed.get_xscale()) == ("log", "linear")
    assert [label.get_text() for label in units.get_xticklabels()] == ["[2]", "[8,8]", "[16]"]
    assert_labels_apart(figure)


def test_labels_of_parallel_coordinates_do_not_overlap(done: pd.DataFrame) -> None:
    figure = figures.parallel_coordinates(done, ["seed", "rate", "units"], "valid/loss")
    assert len(figure.axes[0].lines) == len(done) + 4  # four axes
    assert_labels_apart(figure)


def test_plot_sweep_joins_means_and_skips_missing_values(done: pd.DataFrame) -> None:
    runs = pd.DataFrame({"params.rate": [*done["rate"], None], "metrics.valid/loss": [*done["valid/loss"], 1.0]})
    (axes,) = figures.plot_sweep(runs, "rate", "valid/loss", "title").axes
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.lines[-1].get_xdata(), sorted(map(float, RATES)))
