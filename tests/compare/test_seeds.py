"""Configurations over their seeds: their scores, their order, their table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinnet.compare.seeds import markdown, over_seeds, text, write_seeds


def run(seed: int = 0, accuracy: float = 0.8, **changes: Any) -> dict[str, Any]:
    """A row of the table of runs."""
    row = {
        "experiment": "nba_scratch", "dataset": "nba", "configuration": "c0ffee", "seed": seed, "status": "FINISHED",
        "engine": "scratch/jax", "device": "cpu", "data_source": "mirror", "data_digest": "d1", "overrides": "",
        "valid/accuracy": accuracy, "valid/loss": 1 - accuracy, "seconds": 2.0, "settings": {},
    }  # fmt: skip
    return row | changes


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.floats(0, 1)), min_size=1, max_size=30))
def test_last_run_of_each_seed_is_averaged(runs: list[tuple[str, int, float]]) -> None:
    table = over_seeds(pd.DataFrame([run(seed, accuracy, configuration=name) for name, seed, accuracy in runs]))
    last = {(name, seed): accuracy for name, seed, accuracy in runs}
    assert sorted(table["configuration"]) == sorted({name for name, _ in last})
    assert table["mean"].is_monotonic_decreasing
    for row in table.itertuples():
        scores = [accuracy for (name, _), accuracy in last.items() if name == row.configuration]
        assert row.seeds == len(scores)
        assert row.mean == pytest.approx(np.mean(scores))
        assert row.loss == pytest.approx(1 - np.mean(scores))
        assert row.sd == pytest.approx(np.std(scores, ddof=1)) if len(scores) > 1 else pd.isna(row.sd)
        assert row.low <= row.mean <= row.high if len(scores) > 1 else pd.isna(row.low)


def test_only_finished_runs_on_the_same_data_count() -> None:
    runs = [run(0, 0.7), run(1, 0.9), run(2, 0.1, status="FAILED"), run(3, 0.1, status="KILLED")]
    runs += [run(4, 0.2, data_digest="another season"), run(5, 0.99, data_source="synthetic")]
    table = over_seeds(pd.DataFrame(runs))
    assert table["seeds"].tolist() == [2, 1, 1]
    assert table["mean"].tolist() == pytest.approx([0.8, 0.2, 0.99])
    assert table["data_source"].tolist() == ["mirror", "mirror", "synthetic"], "synthetic data come last"


def test_test_split_is_averaged_and_smallest_errors_lead() -> None:
    runs = [run(seed, 0.99, dataset="fashion_mnist", **{"test/accuracy": 0.9, "test/loss": 0.4}) for seed in (0, 1)]
    nothing = {"valid/accuracy": np.nan}
    runs += [run(seed, dataset="points", configuration="far", **nothing, **{"valid/mae": 3.0}) for seed in (0, 1)]
    runs += [run(seed, dataset="points", configuration="near", **nothing, **{"valid/mae": 1.0}) for seed in (0, 1)]
    table = over_seeds(pd.DataFrame(runs))
    assert table["score"].tolist() == ["test/accuracy", "valid/mae", "valid/mae"]
    assert table["configuration"].tolist() == ["c0ffee", "near", "far"]
    assert table["loss"][0] == pytest.approx(0.4)


def test_run_without_a_score_is_left_out() -> None:
    unscored = pd.DataFrame([run(**{"valid/accuracy": np.nan})])
    assert over_seeds(unscored).empty
    assert over_seeds(unscored[:0]).empty


def test_table_distinguishes_configurations(tmp_path: Path) -> None:
    runs = [
        run(
            seed,
            accuracy,
            configuration=f"{rate}",
            overrides=f"experiment=nba_scratch epochs=9 seed={seed} optimizer.rate={rate}",
        )
        for rate in (0.1, 0.01)
        for seed, accuracy in enumerate((0.7 + rate, 0.72 + rate))
    ]
    table = over_seeds(pd.DataFrame(runs))
    assert table["overrides"].tolist() == ["epochs=9 optimizer.rate=0.1", "epochs=9 optimizer.rate=0.01"]
    report = markdown(table)
    assert "81.00% ± 1.41%" in report
    assert "rate=0.01" in report
    printed = text(table)
    assert "81.00% ± 1.41%" in printed
    assert "68.29 to 93.71" in report, "81% ± 12.71 (the t of one degree of freedom) 1.41% / sqrt(2)"
    assert "68.29 to 93.71" in printed
    (narrow, _) = over_seeds(pd.DataFrame(runs), confidence=0.5)["high"]
    assert narrow == pytest.approx(0.82), "t is 1 there"
    assert printed.splitlines()[1].strip() == "all with epochs=9"
    assert [line.split()[-2:] for line in printed.splitlines()[3:]] == [
        ["nba_scratch", "rate=0.1"],
        ["nba_scratch", "rate=0.01"],
    ]
    assert max(map(len, printed.splitlines())) <= 100
    write_seeds(table, tmp_path)
    assert pd.read_csv(tmp_path / "seeds.csv")["seeds"].tolist() == [2, 2]
    assert (tmp_path / "seeds.md").read_text() == report


def test_runs_without_overrides_are_named_by_their_settings() -> None:
    settings = {"epochs": "100000", "seed": "0", "optimizer.learning_rate": "0.001"}
    runs = [
        run(seed, configuration=str(rate), settings=settings | {"seed": str(seed), "optimizer.learning_rate": rate})
        for rate in ("0.001", "0.01")
        for seed in (0, 1)
    ]
    table = over_seeds(pd.DataFrame(runs))
    assert table["overrides"].tolist() == ["optimizer.learning_rate=0.001", "optimizer.learning_rate=0.01"]
    assert over_seeds(pd.DataFrame(runs[:2]))["overrides"].tolist() == [""]


def test_wide_sweep_is_shown_in_part_and_written_whole() -> None:
    runs = [run(seed, number / 100, configuration=f"c{number}") for number in range(50) for seed in (0, 1)]
    table = over_seeds(pd.DataFrame(runs))
    assert len(table) == 50
    assert "30 more configurations are in seeds.csv" in markdown(table)
    assert "30 more are in seeds.csv" in text(table)
    assert text(over_seeds(pd.DataFrame([run()]))) == "", "one seed has no spread to print"
