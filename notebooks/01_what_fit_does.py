# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does `fit` do?
#
# A network is trained in one line, `model.fit(X, y)`. This notebook takes that line apart on a question from
# basketball: do assists and rebounds per game tell a guard from a forward?
#
# It needs the data of `make repro` and takes two or three minutes.

# %% tags=["parameters"]
EPOCHS = 100_000
FRAMES = [1, 1_000, 5_000, 10_000, 20_000, 25_000, 30_000, 35_000, 40_000, 50_000, 70_000, 100_000]

# %%
# %matplotlib inline
import logging

import pandas as pd
from IPython.display import HTML

from twinnet import DeepLearning, walkthrough
from twinnet.compare.figures import curves
from twinnet.core import config, paths
from twinnet.core.network import build_network
from twinnet.figures import run
from twinnet.figures.curves import learning_curves
from twinnet.teaching.frames import boundary_animation, boundary_frames, sample_plane
from twinnet.teaching.snapshots import train_snapshots
from twinnet.training.dataset import load_splits
from twinnet.training.experiment import train

logging.basicConfig(level=logging.ERROR)
root = paths.root()
out = root / "outputs" / "notebooks"

# %% [markdown]
# ## The data
#
# One row is a player of the season. `apg` and `rpg` are assists and rebounds per game; a player whose position begins
# with G is a guard, every other one a forward.

# %%
table = root / "data/processed/nba/table.csv"
assert table.is_file(), "needs the data of nba: dvc repro preprocess@nba"
players = pd.read_csv(table)
print(f"{len(players)} players, {players['is_forward'].mean():.0%} of them forwards")
players[["apg", "rpg", "is_forward"]].describe().round(2)

# %% [markdown]
# An *experiment* says everything about a training: data, model, engine, optimizer, epochs, seed. It is composed from
# `conf/` and can be changed key by key, here as on the command line.

# %%
overrides = ["experiment=nba_scratch", "engine=scratch_numpy", f"epochs={EPOCHS}"]
scratch = config.experiment(config.compose(root, "train", overrides))
splits = load_splits(scratch.data, root=root, dtype=scratch.engine.dtype.value)
notes = run.notes(splits.source, scratch)
axis_names = [run.AXIS_NAMES[feature] for feature in scratch.data.features]
print("training", splits.X_train.shape, "validation", splits.X_valid.shape, "data from:", splits.source)
sample_plane(splits, scratch.data.classes, axis_names, "guards and forwards of the training split", notes)

# %% [markdown]
# Rebounds pull one way and assists the other: a straight line through the middle would already do well. How does a
# network find it?

# %% [markdown]
# ## The network
#
# Two inputs, four hidden units, one output unit, each unit a sigmoid. The hidden layer has 4 x 2 weights and 4 biases,
# the output layer 4 weights and 1 bias: 17 parameters.

# %%
network = build_network(scratch)
print(f"{network.parameters()} parameters")
shapes = zip(network.layers, network.shapes(), strict=False)
pd.DataFrame([{"layer": type(layer).__name__, "input": shape} | layer.weight_shapes(shape) for layer, shape in shapes])

# %% [markdown]
# ## Keras as the chapter printed it
#
# The chapter trains this network in Keras for five epochs with the loss `categorical_crossentropy`. Nothing moves, not
# in the loss, not in the accuracy:

# %%
book = config.experiment(config.compose(root, "train", ["experiment=nba_keras_book"]))
printed = train(book, out / "nba_keras_book", root=root)
printed.history

# %% [markdown]
# The run says why:

# %%
print("\n".join(printed.warnings))

# %% [markdown]
# The remaining loss, of the order of 1e-7, is the distance that Keras keeps between a probability and 1 before it takes
# a logarithm; the chapter prints the same 6e-08. With one output unit the loss first divides the output by the sum over
# the outputs, which is itself. The prediction becomes 1 for every player whatever the weights are, its logarithm 0, its
# derivative 0. Without `allow_degenerate=true`, such an experiment is refused before any data is loaded. The loss that
# fits one sigmoid unit is the binary cross-entropy, and from here on that is the loss.

# %% [markdown]
# ## One step by hand
#
# Training repeats one step: *forward* through the layers to a prediction, the *loss* of that prediction, *backward*
# through the layers by the chain rule to the derivative of the loss by each parameter, and an *update* of each
# parameter against its derivative. Here is the very first step on a single player, with its numbers; each heading
# names the function that computed them. `docs/mathematics.md` has the derivations.

# %%
step = walkthrough.take_step(scratch, splits.X_train[1], splits.y_train[1])
print(walkthrough.text(step))

# %% [markdown]
# Each part is a table as well, for example the derivatives at the output layer:

# %%
step.layers[-1].backward()

# %% [markdown]
# ## Every epoch by hand
#
# With all players at once the derivatives are means over the players; that is the only difference. The same step,
# over and over:

# %%
by_hand = train(scratch, out / "nba_scratch", root=root)
learning_curves(
    by_hand.full_history(), f"by hand, {by_hand.metrics['valid/accuracy']:.1%} right on the validation split", notes
)

# %% [markdown]
# For a long time next to nothing seems to happen: all weights begin positive, so every hidden unit says almost the
# same thing, and the loss rests near 0.69, the loss of a coin. Then the units part, and the network learns within a
# few thousand epochs. The axis is logarithmic.

# %% [markdown]
# The chapter's class is kept, as a scikit-learn classifier. It draws the same weights and takes the same steps, so that
# not a bit of its loss differs:

# %%
network = DeepLearning([2, 4, 1], random_state=0, array="numpy")
network.fit(splits.X_train, splits.y_train, epochs=EPOCHS, learning_rate=0.001)
print(f"{network.score(splits.X_valid, splits.y_valid):.1%} right on the validation split")
print(
    "largest difference from the run above:",
    abs(network.loss_history_ - by_hand.full_history().arrays()["train/loss"]).max(),
)

# %% [markdown]
# ## Both engines, one curve
#
# `nba_keras` is the twin: the same initial weights, loss, batches and updates, computed by Keras. If our forward and
# back propagation are right, the two curves cannot be told apart.

# %%
twin = config.experiment(config.compose(root, "train", ["experiment=nba_keras", f"epochs={EPOCHS}"]))
by_keras = train(twin, out / "nba_keras", root=root)
tables = {"nba_scratch": by_hand.history, "nba_keras": by_keras.history}
curves(tables, "accuracy", "the twins: by hand, and Keras on top of it", notes=notes)

# %%
difference = (tables["nba_scratch"] - tables["nba_keras"]).abs().max()
difference.drop("epoch").to_frame("largest difference in any recorded epoch")

# %% [markdown]
# ## The boundary as it forms
#
# The network gives each point of the plane a probability of being a forward. The black line is where it is one half.

# %%
networks = train_snapshots(scratch, splits, FRAMES)
predictions = {epochs: fitted.predict for epochs, fitted in networks.items()}
title = "the decision boundary as it forms"
boundary_frames(splits, predictions, scratch.data.classes, axis_names, title, notes)

# %%
HTML(boundary_animation(splits, predictions, scratch.data.classes, axis_names, title, notes))

# %% [markdown]
# At first no line at all: everybody is a forward. Then it enters from the corner of the players who hardly played,
# turns, and settles between the two groups. It stays almost straight, because two features that pull against each
# other need no more; the four hidden units could bend it.
