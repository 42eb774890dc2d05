"""The learning-rate schedules: ends, turning points, and the same numbers whatever the array library."""

import numpy as np
import pytest

from twinnet.core.schedules import factor
from twinnet.core.schema import Schedule, ScheduleKind

STEPS = 101


def factors(schedule: Schedule, steps: int = STEPS) -> np.ndarray:
    return factor(np.arange(steps, dtype=float), steps, schedule, np)


@pytest.mark.parametrize("kind", [ScheduleKind.cosine, ScheduleKind.one_cycle, ScheduleKind.exponential])
def test_decay_ends_at_end(kind: ScheduleKind) -> None:
    values = factors(Schedule(kind, warmup=0.0, end=0.2))
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(0.2, abs=1e-15)
    assert (np.diff(values) < 0).all()


def test_halfway_values() -> None:
    assert factors(Schedule(ScheduleKind.cosine, end=0.2))[50] == pytest.approx(0.6)
    assert factors(Schedule(ScheduleKind.one_cycle, end=0.2))[50] == pytest.approx(0.6)
    assert factors(Schedule(ScheduleKind.exponential, end=0.25))[50] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", list(ScheduleKind))
def test_warmup_rises_linearly_to_one(kind: ScheduleKind) -> None:
    values = factors(Schedule(kind, warmup=0.2, end=0.5))
    np.testing.assert_allclose(values[:21], np.arange(1, 22) / 21, rtol=1e-15)
    assert values.max() == 1.0


def test_constant_is_exactly_one() -> None:
    assert (factors(Schedule()) == 1.0).all()


def test_a_run_of_one_step() -> None:
    assert factors(Schedule(ScheduleKind.cosine), steps=1).tolist() == [1.0]
