"""The checkout in which whole sweeps are measured."""

from collections.abc import Callable

from benchmarks.sweep import checkout
from twinnet.core.schema import Experiment
from twinnet.training.dataset import load_splits


def test_checkout_has_data_to_train_on(compose: Callable[..., Experiment]) -> None:
    with checkout() as folder:
        splits = load_splits(compose("nba_scratch").data, root=folder)
    assert (splits.X_train.shape, splits.X_valid.shape) == ((354, 2), (175, 2))
