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
# # Fashion-MNIST: from a dense network to a convolutional one
#
# 70,000 grey pictures of clothes, 28 x 28 pixels, ten classes. This notebook reads the finished runs of the suite, so
# `make repro` comes first; only the last section trains, for a minute or two.

# %% tags=["parameters"]
EPOCHS = 2
SAMPLES = 10_000

# %%
# %matplotlib inline
import logging

import pandas as pd

from twinnet.compare.figures import curves
from twinnet.core import config, paths
from twinnet.core.network import build_network
from twinnet.figures import run as figures
from twinnet.figures.classes import confusion_matrix
from twinnet.figures.curves import learning_curves
from twinnet.figures.images import hardest_pairs, mistake_grid
from twinnet.training.dataset import load_splits
from twinnet.training.experiment import train
from twinnet.training.run import Run

logging.basicConfig(level=logging.ERROR)
root = paths.root()
names = ["fashion_dense_book", "fashion_dense_scratch", "fashion_dense", "fashion_cnn", "fashion_cnn_scratch"]
runs = {name: Run.read(root / "runs" / name) for name in names}

# %% [markdown]
# ## The data
#
# The first 5,000 training images are kept for validation; the 10,000 test images decide at the end. Pixels go from 0
# to 255 and are divided by 255 before training, except where the chapter feeds them as they are.

# %%
experiment = runs["fashion_cnn"].experiment
classes = experiment.data.classes
splits = load_splits(experiment.data, root=root)
notes = figures.notes(splits.source, experiment)
print("training", splits.X_train.shape, "validation", splits.X_valid.shape, "test", splits.X_test.shape)
figures.sample_grid(splits.X_train, splits.y_train, classes, "the first training samples", notes)

# %% [markdown]
# ## The chapter's dense network, twice
#
# 784 pixels, three hidden layers of 256 sigmoid units, ten outputs: 335,114 parameters, five epochs of Adam on raw
# pixels. The chapter reports 74.68% on the validation images. `fashion_dense_scratch` is the same network propagated by
# hand; both start from the same weights and meet the same batches in the same order. Numbers of 32 bits round
# differently in the two engines, and on raw pixels that grows: the curves begin together and part.

# %%
dense = {name: runs[name].history for name in ("fashion_dense_book", "fashion_dense_scratch")}
curves(dense, "accuracy", "the chapter's network, by Keras and by hand", notes=notes)

# %% [markdown]
# ## What the description changes
#
# All four networks come from the same kind of description: a model, an activation, initial weights, and the task, which
# settles the output layer. Scaled pixels, rectified units with initial weights made for them, and AdamW turn the dense
# network into a good one. Convolutions then do better with fewer parameters, as they look for the same pattern
# everywhere in the picture.

# %%
network = build_network(experiment)
print(f"{network.parameters():,} parameters")
pd.set_option("display.max_colwidth", None)
pd.DataFrame(
    [
        {"layer": type(layer).__name__, "input": before, "output": after, "weights": layer.weight_shapes(before) or ""}
        for layer, before, after in zip(network.layers, network.shapes(), network.shapes()[1:], strict=False)
    ]
)

# %%
columns = ["test/accuracy", "test/loss", "parameters", "epochs", "seconds"]
pd.DataFrame({name: run.metrics for name, run in runs.items()}).T[columns]

# %%
curves({name: run.history for name, run in runs.items()}, "accuracy", "the networks on the same images", notes=notes)

# %% [markdown]
# `reports/comparison.md` has the intervals and the paired tests: which of these differences are more than chance.
#
# ## Mistakes
#
# Most confusion is among shirts, T-shirts, pullovers and coats, which a person would also have trouble with at 28 x 28
# pixels.

# %%
cnn = runs["fashion_cnn"]
confusion_matrix(cnn.y_true, cnn.y_pred, classes, f"fashion_cnn: {cnn.is_correct.mean():.2%} right, test split", notes)

# %% [markdown]
# The four pairs of classes that it takes for each other most often, and mistakes among them:

# %%
images = splits.X_test
hardest_pairs(images, cnn.y_true, cnn.y_prob, classes, "fashion_cnn: predicted, confidence (true)", notes)

# %% [markdown]
# The wrong answers that the network was surest of. Some of the labels can be doubted.

# %%
mistake_grid(
    images, cnn.y_true, cnn.y_prob, classes, "fashion_cnn: surest mistakes, predicted, confidence (true)", notes
)

# %% [markdown]
# ## Train one yourself
#
# Any key of `conf/` can be changed. Here a smaller dense network, by hand, for a few epochs on a part of the images:

# %%
overrides = ["experiment=fashion_dense", "engine=scratch", "model.hidden_units=[64]", "optimizer=adam"]
overrides += [f"epochs={EPOCHS}", f"profile.samples={SAMPLES}"]
mine = config.experiment(config.compose(root, "train", overrides))
run = train(mine, root / "outputs" / "notebooks" / "fashion_mine", root=root)
learning_curves(run.history, f"64 hidden units, {run.metrics['test/accuracy']:.1%} right on the test split", notes)
