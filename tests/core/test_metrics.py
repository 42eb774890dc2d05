"""Scores against direct computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import brier_score_loss, confusion_matrix

from twinnet.core.metrics import class_probabilities, compute_metrics, count_confusions, predicted_classes
from twinnet.core.schema import Loss, Task

BINARY, MULTICLASS, SQUARED = Loss.binary_crossentropy, Loss.categorical_crossentropy, Loss.mean_squared_error
binary_predictions = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        arrays(int, n, elements=st.integers(0, 1)), arrays(np.float64, (n, 1), elements=st.floats(0.01, 0.99))
    )
)
multiclass_predictions = st.tuples(st.integers(1, 20), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(
        arrays(int, shape[0], elements=st.integers(0, shape[1] - 1)),
        arrays(np.float64, shape, elements=st.floats(0.01, 1)),
    )
)


@settings(deadline=None, max_examples=30)
@given(binary_predictions)
def test_binary_scores_are_those_of_the_definition(case: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = case
    expected = -np.mean([np.log(q if label else 1 - q) for label, q in zip(y, p[:, 0], strict=True)])
    scored = compute_metrics(Task.binary, BINARY, y, p)
    assert scored["loss"] == pytest.approx(expected, rel=1e-9)
    assert scored["accuracy"] == np.mean([(q > 0.5) == label for label, q in zip(y, p[:, 0], strict=True)])
    assert compute_metrics(Task.binary, SQUARED, y, p)["loss"] == pytest.approx(brier_score_loss(y, p[:, 0]))


@settings(deadline=None, max_examples=30)
@given(multiclass_predictions)
def test_multiclass_scores_are_those_of_the_definition(case: tuple[np.ndarray, np.ndarray]) -> None:
    y, raw = case
    p = raw / raw.sum(axis=1, keepdims=True)
    scored = compute_metrics(Task.multiclass, MULTICLASS, y, p)
    assert scored["loss"] == pytest.approx(-np.mean(np.log(p[np.arange(len(y)), y])), rel=1e-9, abs=1e-12)
    assert scored["accuracy"] == np.mean(p.argmax(axis=1) == y)
    squares = [(p[i, c] - (y[i] == c)) ** 2 for i in range(len(y)) for c in range(p.shape[1])]
    assert compute_metrics(Task.multiclass, SQUARED, y, p)["loss"] == pytest.approx(np.mean(squares))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saturated_network_has_a_large_but_finite_loss(dtype: type) -> None:
    wrong = compute_metrics(Task.binary, BINARY, np.array([0, 1]), np.array([[1], [0]], dtype=dtype))
    assert wrong["accuracy"] == 0
    assert wrong["loss"] == pytest.approx(-np.log(np.finfo(dtype).eps), rel=1e-3)
    onehot = np.array([[0, 1, 0], [0, 1, 0]], dtype=dtype)
    assert 1 < compute_metrics(Task.multiclass, MULTICLASS, np.array([0, 1]), onehot)["loss"] < 40
    assert compute_metrics(Task.multiclass, MULTICLASS, np.array([1, 1]), onehot)["loss"] == pytest.approx(0, abs=1e-6)


def test_classes_that_do_not_occur_are_no_obstacle() -> None:
    p = np.full((3, 4), 0.25)
    assert compute_metrics(Task.multiclass, MULTICLASS, np.zeros(3, dtype=int), p)["loss"] == pytest.approx(np.log(4))
    assert compute_metrics(Task.binary, BINARY, np.ones(3, dtype=int), np.full((3, 1), 0.5))["loss"] == pytest.approx(
        np.log(2)
    )


def test_the_degenerate_loss_is_the_one_that_is_trained() -> None:
    p = np.array([[0.9], [0.8], [0.7]])
    scored = compute_metrics(Task.binary, MULTICLASS, np.array([1, 0, 1]), p)
    assert scored == {"loss": 0.0, "accuracy": pytest.approx(2 / 3)}


def test_regression_is_scored_by_squares_and_absolute_errors() -> None:
    scored = compute_metrics(Task.regression, SQUARED, np.array([1.0, 2.0]), np.array([[2.0], [5.0]]))
    assert scored == {"loss": 5.0, "mae": 2.0}


def test_one_half_is_class_0_and_probabilities_sum_to_1() -> None:
    p = np.array([[0.5], [0.5000001], [0.2]], dtype=np.float32)
    assert predicted_classes(p).tolist() == [0, 1, 0]
    assert class_probabilities(p).sum(axis=1) == pytest.approx(1)
    assert class_probabilities(np.eye(3)).tolist() == np.eye(3).tolist()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_confusions_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    y_true, y_pred = np.array(pairs).T
    expected = confusion_matrix(y_true, y_pred, labels=range(4))
    np.testing.assert_array_equal(count_confusions(y_true, y_pred, 4), expected)
