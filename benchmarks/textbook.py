"""The peer of the tiny network: gradient descent as a textbook's first program writes it, one method a formula.

It makes what such a program makes and nothing less: weights in dictionaries keyed by layer, the loss and the accuracy
of each epoch after a forward pass of their own, then back propagation, which begins with a forward pass again and
computes each sigmoid again for its derivative. It is measured, not used.
"""

import numpy as np


class Textbook:
    """Sigmoid layers, binary cross-entropy, full-batch gradient descent; X is (samples, features), y (samples,)."""

    def __init__(self, units: list[int], seed: int) -> None:
        random = np.random.RandomState(seed)
        self.depth = len(units) - 1
        self.weights = {}
        for layer in range(1, self.depth + 1):
            self.weights[f"W{layer}"] = random.rand(units[layer], units[layer - 1])
            self.weights[f"b{layer}"] = random.rand(units[layer], 1)

    def fit(self, X: np.ndarray, y: np.ndarray, epochs: int, learning_rate: float) -> tuple[list, list]:
        """Loss and accuracy of each epoch, before its update."""
        self.X, self.y = X.copy(), y.copy()
        losses, accuracies = [], []
        for _ in range(epochs):
            self._forward()
            losses.append(self._loss())
            accuracies.append(self._accuracy())
            self._backward()
            for layer in range(1, self.depth + 1):
                for name in ("W", "b"):
                    self.weights[f"{name}{layer}"] -= learning_rate * self.gradients[f"{name}{layer}"]
        return losses, accuracies

    def _forward(self) -> None:
        self.seen = {}
        A = self.X.copy().T
        for layer in range(1, self.depth + 1):
            Z = np.dot(self.weights[f"W{layer}"], A) + self.weights[f"b{layer}"]
            self.seen[f"A{layer - 1}"], self.seen[f"Z{layer}"] = A, Z
            A = _sigmoid(Z)
        self.output = A

    def _backward(self) -> None:
        self._forward()
        samples = len(self.X)
        A, Y = self.output.copy(), self.y.copy().reshape(1, samples)
        self.gradients = {}
        dA = -(np.divide(Y, A) - np.divide(1 - Y, 1 - A))
        for layer in range(self.depth, 0, -1):
            s = _sigmoid(self.seen[f"Z{layer}"])
            dZ = dA * (s * (1 - s))
            self.gradients[f"W{layer}"] = np.dot(dZ, self.seen[f"A{layer - 1}"].T) / samples
            self.gradients[f"b{layer}"] = np.sum(dZ, axis=1, keepdims=True) / samples
            dA = np.dot(self.weights[f"W{layer}"].T, dZ)

    def _loss(self) -> float:
        A, Y = self.output.copy(), self.y.copy().reshape(1, len(self.y))
        total = np.dot(Y, np.log(A).T) + np.dot(1 - Y, np.log(1 - A).T)
        return (-1 / len(self.y) * total)[0, 0]

    def _accuracy(self) -> float:
        predicted = np.where(self.output.ravel() > 0.5, 1, 0)
        return (predicted == self.y).sum() / predicted.size


def _sigmoid(Z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-Z))
