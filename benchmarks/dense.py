"""784-256-256-256-10, batches of 32, Adam, float32: steps a second, in whole epochs with loss and accuracy recorded.

Each peer at its best setting: Keras with a compiled step, 50 of them a call and the data in memory; PyTorch with its
fused Adam. Only the project's own engine also evaluates a validation split, of 32 samples.
"""

import os
import sys
from collections.abc import Callable
from itertools import pairwise

from benchmarks.interleaved import Peer, Row

STEPS, EPOCHS = 250, 2
TORCH = os.environ.get("TWINNET_TORCH", sys.executable)  # a Python that has PyTorch, which is not among the project's

ROWS = [
    Row(
        "dense",
        "step",
        [
            Peer("scratch, compiled", "benchmarks.dense:compiled"),
            Peer("Keras on TensorFlow", "benchmarks.dense:keras", {"KERAS_BACKEND": "tensorflow"}),
            Peer("Keras on JAX", "benchmarks.dense:keras", {"KERAS_BACKEND": "jax"}),
            Peer("PyTorch", "benchmarks.dense:pytorch", interpreter=TORCH),
        ],
        at_least={"Keras on TensorFlow": 1, "PyTorch": 1},
        aim={"Keras on TensorFlow": 1.5, "PyTorch": 1.5},
        rounds=15,
        note=f"{EPOCHS} epochs of {STEPS} steps; Keras: jit_compile, steps_per_execution=50; PyTorch: fused Adam",
    )
]


def compiled() -> Callable[[], int]:
    from benchmarks.problems import pictures, training  # the Python of PyTorch has no twinnet

    return training(pictures(STEPS, EPOCHS), STEPS * EPOCHS)


def keras() -> Callable[[], int]:
    import keras
    import tensorflow as tf

    from benchmarks.problems import pictures

    problem = pictures(STEPS, EPOCHS)
    hidden = [keras.layers.Dense(256, activation="sigmoid") for _ in range(3)]
    model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10, activation="softmax")])
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=True, steps_per_execution=50
    )
    samples = (problem.X_train, problem.y_train)
    batches = tf.data.Dataset.from_tensor_slices(samples).batch(32, drop_remainder=True).cache().prefetch(2)

    def train() -> int:
        model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0)
        return STEPS * EPOCHS

    return train


def pytorch() -> Callable[[], int]:
    import torch
    from torch import nn

    X, y = torch.rand(32 * STEPS, 784), torch.randint(0, 10, (32 * STEPS,))
    widths = [784, 256, 256, 256]
    hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Sigmoid())]
    model, loss = nn.Sequential(*hidden, nn.Linear(256, 10)), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)

    def train() -> int:
        for _ in range(EPOCHS):
            total, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for index in torch.randperm(len(X)).split(32):
                batch, labels = X[index], y[index]
                optimizer.zero_grad()
                output = model(batch)
                value = loss(output, labels)
                value.backward()
                optimizer.step()
                total += value.detach()
                hits += (output.argmax(1) == labels).sum()
            total.item(), hits.item()
        return STEPS * EPOCHS

    return train
