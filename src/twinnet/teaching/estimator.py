"""The chapter's class as a scikit-learn classifier, trained by the scratch engine."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from twinnet.core import engine
from twinnet.core.history import History
from twinnet.core.metrics import class_probabilities
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Network
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, ArrayLibrary, Dtype, GradientDescent, Initializer, Loss, ScratchEngine, Task

HIDDEN_UNITS = 4  # of the chapter's network, if no layers are given
LINES = 10  # that a training with verbose prints at most


class DeepLearning(ClassifierMixin, BaseEstimator):
    """A network of sigmoid layers trained by gradient descent on all samples at once, in float64.

    Weights are drawn layer by layer on [0, 1) from `random_state`: rand(units, inputs), then rand(units, 1) for the
    bias. One output unit is the probability of the second of two classes; more units are a softmax over the classes.

    Parameters
    ----------
    layer_of_units : units of each layer, the features first and the outputs last; None is [features, 4, outputs]
    random_state : None, a number or a RandomState, as everywhere in scikit-learn
    array : "jax", compiled, or "numpy", the readable reference; they agree to rounding
    verbose : whether `fit` prints up to ten lines with the loss and the accuracy before an update

    Attributes
    ----------
    loss_history_, accuracy_history_ : cross-entropy and accuracy of each epoch before its update, (epochs,)
    weights_ : W1 (inputs, units), b1 (units,), W2, b2, ..., in the order of `get_weights()` in Keras
    network_ : the trained network, a `core.problem.TrainedNetwork`
    classes_, n_features_in_, n_iter_ : as everywhere in scikit-learn
    """

    def __init__(
        self,
        layer_of_units: Sequence[int] | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
        array: str = "jax",
        verbose: bool = False,
    ) -> None:
        self.layer_of_units = layer_of_units
        self.random_state = random_state
        self.array = array
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: ArrayLike, epochs: int = 100000, learning_rate: float = 0.001) -> Self:
        """Train on X (samples, features) and y (samples,) from new weights.

        Raises ValueError for data or layers that do not fit, DivergedError, with the histories up to the last finite
        loss, if the loss does not stay finite.
        """
        samples, targets = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(targets)
        self.classes_, labels = np.unique(targets, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: expected at least two classes; received one class, {self.classes_[0]!r}")
        problem = self._problem(samples, labels, epochs, learning_rate)
        every = -(-problem.epochs // LINES)
        monitor = Monitor(
            "accuracy", listeners=(lambda history: _print_epochs(history, every),) if self.verbose else ()
        )
        try:
            self.network_ = engine.fit(problem, monitor)
        finally:
            history = monitor.history.arrays()
            self.loss_history_, self.accuracy_history_ = history["train/loss"], history["train/accuracy"]
            self.n_iter_ = len(self.loss_history_)
        self.weights_ = [array for layer in self.network_.weights() for array in layer.values()]
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class, (samples, classes)."""
        check_is_fitted(self, "network_")
        return class_probabilities(self.network_.predict(validate_data(self, X, dtype=np.float64, reset=False)))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the class with the highest probability, (samples,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def _units(self) -> list[int]:
        """Return the units of each layer. Raises ValueError if they do not fit the data."""
        classes = len(self.classes_)
        outputs = 1 if classes == 2 else classes
        if self.layer_of_units is None:
            return [self.n_features_in_, HIDDEN_UNITS, outputs]
        units = list(self.layer_of_units)
        whole = all(isinstance(number, int | np.integer) and number >= 1 for number in units)
        if len(units) < 2 or not whole:
            raise ValueError(f"layer_of_units: expected two or more whole numbers of at least 1; received {units}")
        if units[0] != self.n_features_in_:
            raise ValueError(
                f"layer_of_units: expected {self.n_features_in_} first, the features of X; received {units[0]}"
            )
        if units[-1] not in (outputs, classes):
            raise ValueError(f"layer_of_units: expected {outputs} last, for {classes} classes; received {units[-1]}")
        return units

    def _problem(self, X: np.ndarray, labels: np.ndarray, epochs: int, learning_rate: float) -> Problem:
        if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer) or epochs < 1:
            raise ValueError(f"epochs: expected a whole number of at least 1; received {epochs!r}")
        if not learning_rate > 0 or not np.isfinite(learning_rate):
            raise ValueError(f"learning_rate: expected a number above 0; received {learning_rate!r}")
        features, *hidden, outputs = self._units()
        several = outputs > 1
        layers = [Dense(units, Activation.sigmoid) for units in hidden]
        layers.append(Dense(outputs, Activation.softmax if several else Activation.sigmoid))
        network = Network((features,), tuple(layers))
        fixed: dict[str, Any] = {
            "loss": Loss.categorical_crossentropy if several else Loss.binary_crossentropy,
            "task": Task.multiclass if several else Task.binary,
        }
        return Problem(
            network=network,
            weights=network.initial_weights(Initializer.uniform, check_random_state(self.random_state), "float64"),
            optimizer=GradientDescent(learning_rate=float(learning_rate)),
            engine=ScratchEngine(dtype=Dtype.float64, array=ArrayLibrary(self.array)),
            X_train=X,
            y_train=labels,
            X_valid=X[:1],  # the chapter's fit looks at no other samples
            y_valid=labels[:1],
            epochs=int(epochs),
            batch_size=len(X),
            seed=0,
            device="cpu",
            **fixed,
        )


def _print_epochs(history: History, every: int) -> None:
    """Print the epochs of the last chunk whose number of earlier updates is a multiple of `every`."""
    loss, accuracy = history.train_loss[-1], history.train_metric[-1]
    first = history.epochs - len(loss)
    for epoch in range(-first % every, len(loss), every):
        print(f"{first + epoch:>7,} updates: loss {loss[epoch]:.6f}, accuracy {accuracy[epoch]:.2%}")
