"""Odd machines: what the commands make of a few of them; `make exhaustive` and `make faults` try all."""

import os
import subprocess
import sys
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


@pytest.mark.parametrize("module", ["compare.draw", "compare.write", "data.card", "sweeps.figures"])
def test_unknown_backend_of_matplotlib_does_not_matter(module: str) -> None:
    """Each module that draws for a command, imported first: Matplotlib reads the variable once."""
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    subprocess.run([sys.executable, "-c", f"import twinnet.{module}"], env=environment, check=True)
