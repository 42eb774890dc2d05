"""Odd machines: what the commands make of a few of them; `make exhaustive` and `make faults` try all."""

from pathlib import Path

import pytest

from tests.machines import MACHINES, run_all

QUICK = ("a locale in Big5", "a user without an entry", "leftovers of Emacs", "a copied checkout", "a moved checkout")


def test_machines_are_many_and_different() -> None:
    tried = [machine.tried for machine in MACHINES]
    assert len(set(tried)) == len(tried) >= 15


@pytest.mark.parametrize("words", [QUICK, pytest.param(("",), marks=pytest.mark.exhaustive)], ids=["some", "all"])
def test_odd_machines_end_well_or_in_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    some = [machine for machine in MACHINES if machine.tried.startswith(words)]
    outcomes = run_all(some, tmp_path)
    assert {outcome.tried: outcome.answer for outcome in outcomes if outcome.mistakes} == {}
