"""Every fault of a source is refused in one line, within the limit, leaving nothing; `make faults` prints them."""

from pathlib import Path

import pytest

from tests.data.faults.cases import cases
from tests.data.faults.run import run_all, table


def test_faults_are_at_least_60_with_names_of_their_own() -> None:
    names = [case.slug for case in cases()]
    assert len(set(names)) == len(names)
    assert sum(not case.right for case in cases()) >= 60


@pytest.mark.parametrize("kind", ["json", "idx", "csv", "npz"])
def test_faults_are_refused_and_oddities_accepted(kind: str, tmp_path: Path) -> None:
    some = [case for case in cases() if case.kind == kind]
    outcomes = run_all(some, tmp_path)
    assert {outcome.case.slug: outcome.mistakes for outcome in outcomes if outcome.mistakes} == {}
    assert not (tmp_path / "escaped.gz").exists()
    assert not Path("/tmp/escaped.gz").exists()
    assert len(table(outcomes).splitlines()) == len(some) + 2
