"""The chapter's class as a scikit-learn classifier."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from twinnet import DeepLearning
from twinnet.core.errors import DivergedError


class Quick(DeepLearning):
    """The same class with defaults of `fit` that reach as far in fewer, larger steps."""

    def fit(self, X, y, epochs=400, learning_rate=1.0):
        return super().fit(X, y, epochs, learning_rate)


def data(samples: int = 60, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    X = random.normal(0, 1, (samples, 2))
    edges = [0.0, 1.0][: classes - 1]
    return X, np.array(["centre", "forward", "guard"])[np.searchsorted(edges, X.sum(axis=1))]


def failures(estimator: DeepLearning) -> list[tuple[str, str]]:
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    assert len(results) > 40
    return [(r["check_name"], str(r["exception"])) for r in results if r["status"] not in ("passed", "skipped")]


def test_it_is_a_scikit_learn_classifier() -> None:
    assert failures(Quick(array="numpy")) == []


@pytest.mark.exhaustive  # 51 trainings of 100,000 epochs
def test_it_is_a_scikit_learn_classifier_as_it_stands() -> None:
    assert failures(DeepLearning()) == []


def test_histories_weights_and_predictions_are_the_chapters() -> None:
    """Weights drawn rand(out, in), rand(out, 1) layer by layer; loss and accuracy before each update."""
    X, y = data()
    model = DeepLearning([2, 4, 1], random_state=3, array="numpy").fit(X, y, epochs=2, learning_rate=0.5)
    random = np.random.RandomState(3)
    W1, b1, W2, b2 = random.rand(4, 2), random.rand(4, 1), random.rand(1, 4), random.rand(1, 1)
    A1 = 1 / (1 + np.exp(-(W1 @ X.T + b1)))
    p = 1 / (1 + np.exp(-(W2 @ A1 + b2)))[0]
    is_second = y == "forward"
    assert model.classes_.tolist() == ["centre", "forward"]
    assert model.loss_history_[0] == pytest.approx(-np.log(np.where(is_second, p, 1 - p)).mean(), rel=1e-14)
    assert model.accuracy_history_[0] == ((p > 0.5) == is_second).mean()
    assert model.loss_history_.shape == model.accuracy_history_.shape == (2,) == (model.n_iter_,)
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(X) == "forward", probabilities[:, 1] > 0.5)
    assert [array.shape for array in model.weights_] == [(2, 4), (4,), (4, 1), (1,)], "as Keras has them"
    assert sum(array.size for array in model.weights_) == 17


@pytest.mark.parametrize("array", ["jax", "numpy"])
def test_verbose_prints_ten_lines_of_the_history(array: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = DeepLearning([2, 4, 1], random_state=0, array=array, verbose=True).fit(*data(), epochs=2500)
    expected = [
        f"{epoch:>7,} updates: loss {model.loss_history_[epoch]:.6f}, accuracy {model.accuracy_history_[epoch]:.2%}"
        for epoch in range(0, 2500, 250)
    ]
    assert capsys.readouterr().out.splitlines() == expected
    model.fit(*data(), epochs=25)
    assert len(capsys.readouterr().out.splitlines()) == 9
    model.set_params(verbose=False).fit(*data(), epochs=25)
    assert capsys.readouterr().out == ""


def test_compiled_and_reference_agree_and_learn() -> None:
    X, y = data()
    compiled, reference = (
        DeepLearning([2, 4, 1], random_state=0, array=array).fit(X, y, epochs=1500, learning_rate=0.5)
        for array in ("jax", "numpy")
    )
    np.testing.assert_allclose(compiled.loss_history_, reference.loss_history_, rtol=1e-10)
    assert reference.score(X, y) > 0.95


def test_several_classes_and_cross_validation() -> None:
    X, y = data(120, classes=3)
    scores = cross_val_score(Quick(random_state=0, array="numpy"), X, y, cv=3)
    assert scores.min() > 0.7


def test_random_state_is_respected_and_clone_keeps_parameters() -> None:
    X, y = data()
    model = DeepLearning([2, 3, 1], random_state=7, array="numpy")
    fits = [clone(model).fit(X, y, epochs=3).loss_history_ for _ in range(2)]
    np.testing.assert_array_equal(*fits)
    shared = np.random.RandomState(7)
    first, second = (clone(model).set_params(random_state=shared) for _ in range(2))
    first = DeepLearning([2, 3, 1], random_state=shared, array="numpy").fit(X, y, epochs=3)
    second = DeepLearning([2, 3, 1], random_state=shared, array="numpy").fit(X, y, epochs=3)
    np.testing.assert_array_equal(first.loss_history_, fits[0])
    assert (second.loss_history_ != first.loss_history_).any()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([3, 4, 1], "expected 2 first, the features of X; received 3"),
        ([2, 4, 5], "expected 1 last, for 2 classes; received 5"),
        ([2], "two or more whole numbers"),
        ([2, 0, 1], "two or more whole numbers"),
        ([2, 1.5, 1], "two or more whole numbers"),
    ],
)
def test_layers_that_do_not_fit(layers: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepLearning(layers).fit(*data())


@pytest.mark.parametrize(("epochs", "learning_rate"), [(0, 0.1), (2.5, 0.1), (True, 0.1), (5, 0), (5, np.nan)])
def test_numbers_that_do_not_train(epochs, learning_rate) -> None:
    with pytest.raises(ValueError, match="expected"):
        DeepLearning().fit(*data(), epochs=epochs, learning_rate=learning_rate)


def test_bad_data() -> None:
    X, y = data()
    with pytest.raises(ValueError, match="one class"):
        DeepLearning().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="NaN"):
        DeepLearning().fit(np.where(X > 1, np.nan, X), y)
    with pytest.raises(ValueError, match="array"):
        DeepLearning().fit(X[:0], y[:0])


def test_divergence_keeps_the_history() -> None:
    """Features and a rate so large that the weights overflow."""
    X, y = data()
    model = DeepLearning([2, 1], random_state=0, array="numpy")
    with pytest.raises(DivergedError, match="at epoch"):
        model.fit(X * 1e150, y, epochs=50, learning_rate=1e200)
    assert np.isfinite(model.loss_history_).all()
    assert model.n_iter_ == len(model.loss_history_)


def test_importing_the_package_imports_no_engine() -> None:
    code = "import sys, twinnet; assert not {'sklearn', 'jax', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
