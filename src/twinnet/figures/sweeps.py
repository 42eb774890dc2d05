"""What a sweep shows: a metric against the parameter that was swept."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from twinnet.figures.style import BLUE, new_figure, styled


@styled
def response(runs: pd.DataFrame, parameter: str, metric: str, title: str, notes: Sequence[str] = ()) -> Figure:
    """Each run as a dot and the mean at each value as a line; a logarithmic axis for positive values far apart.

    `runs` is as mlflow.search_runs gives it, with columns `params.<parameter>` and `metrics.<metric>`; runs without
    either are left out.
    """
    shown = pd.DataFrame(
        {"value": pd.to_numeric(runs[f"params.{parameter}"]), "score": runs[f"metrics.{metric}"]}
    ).dropna()
    means = shown.groupby("value")["score"].mean()
    figure = new_figure(7, 4, title, notes)
    axes = figure.subplots()
    axes.scatter(shown["value"], shown["score"], s=30, color=BLUE, alpha=0.5, edgecolor="none", label="one run")
    axes.plot(means.index, means, color=BLUE, marker="_", markersize=16, label="mean over the seeds")
    if means.index.min() > 0 and means.index.max() >= 10 * means.index.min():
        axes.set_xscale("log")
    axes.set(xlabel=parameter, ylabel=metric)
    axes.legend()
    return figure
