"""The plane of two features as any classifier divides it."""

from typing import Any

import numpy as np
import pytest
from matplotlib.contour import ContourSet
from matplotlib.text import Text
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from twinnet import DeepLearning
from twinnet.teaching.frames import classifier_boundary

random = np.random.default_rng(0)
X = random.gamma(2.0, 2.0, size=(60, 2))
y = np.where(X[:, 1] > X[:, 0], "forward", "guard")


class Network:
    """A network whose `predict` returns the probability of the second class, (samples, 1), as one of Keras does."""

    def predict(self, points: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(points[:, 1:] - points[:, :1]))


class Plain:
    """A class with probabilities of the second class alone, (samples,), as the chapter's."""

    def predict_proba(self, points: np.ndarray) -> np.ndarray:
        return Network().predict(points).ravel()

    def predict(self, points: np.ndarray) -> np.ndarray:
        return np.where(self.predict_proba(points) > 0.5, "guard", "forward")


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression().fit(X, y),
        LinearSVC().fit(X, y),
        DeepLearning([2, 4, 1], random_state=0, array="numpy").fit(X, y, epochs=400, learning_rate=1.0),
        Network(),
        Plain(),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_boundary_runs_between_the_classes(classifier: Any) -> None:
    figure = classifier_boundary(classifier, X, y, ["apg", "rpg"], "a title")
    words = {text.get_text() for text in figure.findobj(Text)}
    assert {"forward (training)", "guard (training)", "apg", "rpg", "a title", "probability 0.5"} <= words
    assert not any("validation" in word for word in words)
    (line,) = [shape for shape in figure.axes[0].findobj(ContourSet) if len(shape.levels) == 1]
    points = np.vstack([path.vertices for path in line.get_paths()])
    assert np.abs(points[:, 0] - points[:, 1]).mean() < 1.5


def test_several_classes_have_a_legend_inside_the_figure() -> None:
    labels = np.searchsorted([1, 2, 3, 4, 5, 6], X[:, 0])
    figure = classifier_boundary(LinearSVC().fit(X, labels), X, labels, classes=[f"class {i}" for i in range(7)])
    figure.draw_without_rendering()
    box = figure.axes[0].get_legend().get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_a_classifier_of_one_class_has_no_line() -> None:
    figure = classifier_boundary(DummyClassifier().fit(X, y), X, y)
    assert "probability 0.5" not in {text.get_text() for text in figure.findobj(Text)}
