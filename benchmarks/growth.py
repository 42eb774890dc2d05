"""How seconds grow with the work: each row at sizes over decades, and the slope in a log-log plot, 1 if linear.

A peer is one size of the row. `draw` makes one figure of all rows, build/bench/growth.png.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.interleaved import Peer, Row, points, slope
from benchmarks.problems import batched_training, players, training
from benchmarks.sweep import checkout, measure_sweep

PREFIX = "growth_"
JOBS = "jobs of 100 epochs of 2-4-1 in NumPy"


def _row(name: str, sizes: tuple[int, ...], note: str, one_process: bool = True) -> Row:
    peers = [Peer(f"{size:,}", f"benchmarks.growth:{name}:{size}") for size in sizes]
    return Row(PREFIX + name, name, peers, {}, {}, rounds=1, note=note, one_process=one_process, kind="growth")


ROWS = [
    _row("epochs", (10_000, 100_000, 1_000_000), "2-4-1 on 354 rows"),
    _row("samples", (100, 1000, 10_000, 100_000), "2-4-1, 300 epochs"),
    _row("units", (4, 40, 400, 4000), "2-units-1 on 354 rows, 300 epochs"),
    _row("configurations", (10, 100, 1000), "2-4-1, 200 epochs each, at once"),
    _row("jobs", (10, 100, 1000), f"a sweep of {JOBS} by joblib, tracked", False),
    _row("ray_jobs", (10, 100, 1000), f"a sweep of {JOBS} over a local Ray cluster, tracked", False),
    _row("published_runs", (10, 100, 1000), "python -m pipelines.publish into a store that is there", False),
    _row("compared_runs", (10, 100, 1000), "twinnet.compare.seeds over the runs of a store", False),
]


def epochs(size: int) -> Callable[[], int]:
    return training(players("jax", size), 1)


def samples(size: int) -> Callable[[], int]:
    return training(players("jax", 300, samples=size), 1)


def units(size: int) -> Callable[[], int]:
    return training(players("jax", 300, units=size), 1)


def configurations(size: int) -> Callable[[], int]:
    return batched_training([players("jax", 200, seed) for seed in range(size)], 1)


def jobs(size: int, launcher: str = "joblib") -> Callable[[], tuple[float, float, dict[str, float]]]:
    calls = count()

    def run() -> tuple[float, float, dict[str, float]]:
        if not next(calls):  # a sweep starts processes of its own, so there is nothing to warm up
            return 1, 0.0, {}
        with checkout() as folder:
            return 1, *measure_sweep(folder, *jobs_words(size, launcher))

    return run


def jobs_words(size: int, launcher: str) -> tuple[str, ...]:
    return f"hydra/launcher={launcher}", "engine=scratch_numpy", "epochs=100", f"seed=range(0,{size})"


ray_jobs = partial(jobs, launcher="ray")


def published_runs(size: int) -> Callable[[], int]:
    """Publish `size` copies of a run, which differ in the seconds that it took."""
    folder, publish = _store(size)
    calls = count()

    def send() -> int:
        publish(folder / ("runs" if next(calls) else "first"))  # the warm-up: one run, which makes the store
        return 1

    return send


def compared_runs(size: int) -> Callable[[], int]:
    from twinnet.compare import seeds
    from twinnet.core.schema import Tracking
    from twinnet.tracking.search_runs import runs_table

    folder, publish = _store(size)
    publish(folder / "runs")

    def compare() -> int:
        table = seeds.over_seeds(runs_table(Tracking(), root=folder), 0.95)
        assert len(table)
        return 1

    return compare


def _store(size: int) -> tuple[Path, Callable[[Path], object]]:
    """Return a checkout with first/, one finished run, and runs/, `size` others, and what publishes such a folder."""
    from benchmarks.tracking import project
    from twinnet.core import config
    from twinnet.core.schema import Tracking
    from twinnet.tracking.publish import publish
    from twinnet.training import experiment as training

    folder = project("nba_scratch")
    words = ["experiment=nba_scratch", "epochs=100", "engine=scratch_numpy"]
    run = training.train(config.experiment(config.compose(folder, "train", words)), folder / "first" / "0", root=folder)
    for i in range(1, size + 1):
        copy = folder / "runs" / str(i)
        shutil.copytree(run.directory, copy)
        (copy / "metrics.json").write_text(json.dumps(dict(run.metrics) | {"seconds": float(i)}))
    return folder, partial(publish, settings=Tracking(deadline_seconds=600), root=folder)


def draw(results: list[dict], file: Path) -> Path:
    """Draw seconds against size of each row that grows, with its slope."""
    from twinnet.figures.style import new_figure, save, styled

    figure = styled(new_figure)(9, 5.5, "Seconds against size")
    axes = figure.subplots()
    for result in results:
        sizes, seconds = zip(*points(result).items(), strict=True)
        axes.plot(sizes, seconds, marker="o", label=f"{result['unit']}, slope {slope(points(result)):.2f}")
    axes.set(xscale="log", yscale="log", xlabel="size", ylabel="seconds")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return save(figure, file)
