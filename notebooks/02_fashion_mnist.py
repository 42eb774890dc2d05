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
from twinnet.compare.tables import leaderboard
from twinnet.core import config, paths
from twinnet.core.network import build_network
from twinnet.core.schema import Compare
from twinnet.figures import run as figures
from twinnet.figures.classes import confusion_matrix
from twinnet.figures.curves import learning_curves
from twinnet.figures.images import hardest_pairs, mistake_grid
from twinnet.training.dataset import load_splits
from twinnet.training.experiment import train
from twinnet.training.run import finished_runs, read_runs

logging.basicConfig(level=logging.ERROR)
root = paths.root()
names = [folder.name for folder in finished_runs(root / "runs") if folder.name.startswith("fashion_")]
assert names, "needs runs whose names begin with fashion_: dvc repro train@fashion_dense"
found = {run.name: run for run in read_runs(root / "runs", names)}
board = leaderboard(list(found.values()), Compare())
runs = {name: found[name] for name in board["experiment"]}
best = runs[board["experiment"][0]]
print(f"{len(runs)} runs, the best first: {', '.join(runs)}")

# %% [markdown]
# ## The data
#
# The first 5,000 training images are for validation; the 10,000 test images decide at the end. Pixels go from 0 to 255
# and are divided by 255 before training, except in the runs of the chapter's network.

# %%
experiment = best.experiment
classes = experiment.data.classes
splits = load_splits(experiment.data, root=root, samples=experiment.limits.samples)
notes = figures.notes(splits.source, experiment)
print("training", splits.X_train.shape, "validation", splits.X_valid.shape, "test", splits.X_test.shape)
figures.sample_grid(splits.X_train, splits.y_train, classes, "the first training samples", notes)

# %% [markdown]
# ## The chapter's dense network, twice
#
# 784 pixels, three hidden layers of 256 sigmoid units, ten outputs: 335,114 parameters, five epochs of Adam on raw
# pixels. The chapter reports 74.68% on the validation images. `fashion_dense_scratch` is the same network propagated by
# hand; both start from the same weights and see the same batches in the same order. Numbers of 32 bits round
# differently in the two engines, and on raw pixels that grows.

# %%
twins = {name: runs[name].history for name in ("fashion_dense_book", "fashion_dense_scratch") if name in runs}
first = {name: f"{history['valid/loss'].iloc[0]:.4f}" for name, history in twins.items()}
print(f"validation loss after the first epoch: {first or 'needs fashion_dense_book and fashion_dense_scratch'}")
curves(twins or {best.name: best.history}, "accuracy", "the chapter's network, by Keras and by hand", notes=notes)

# %% [markdown]
# ## What the description changes
#
# All networks come from the same kind of description: a model, an activation, initial weights, and the task, which
# determines the output layer. A convolution looks for the same pattern everywhere in the picture, so it needs few
# parameters. The layers of the best network:

# %%
network = build_network(experiment)
print(f"{best.name}: {network.parameters():,} parameters")
pd.set_option("display.max_colwidth", None)
pd.DataFrame(
    [
        {"layer": type(layer).__name__, "input": before, "output": after, "weights": layer.weight_shapes(before) or ""}
        for layer, before, after in zip(network.layers, network.shapes(), network.shapes()[1:], strict=False)
    ]
)

# %%
print(f"{best.name}: {best.metrics['test/accuracy']:.2%} right on the test split")
board.set_index("experiment")[["accuracy", "low", "high", "loss", "parameters", "epochs", "seconds"]]

# %%
histories = {name: run.history for name, run in runs.items()}
curves(histories, "accuracy", f"{len(runs)} networks on the same images", notes=notes)

# %% [markdown]
# `low` and `high` bound each accuracy at 95%. `reports/comparison/comparison.md` has the paired tests: the differences
# that are more than chance.
#
# ## Mistakes
#
# The pairs of classes that a network confuses are mostly those that a person also confuses at 28 x 28 pixels.

# %%
title = f"{best.name}: {best.is_correct.mean():.2%} right, test split"
confusion_matrix(best.y_true, best.y_pred, classes, title, notes)

# %% [markdown]
# The pairs of classes that it confuses most often, and mistakes among them:

# %%
title = f"{best.name}: predicted, confidence (true)"
hardest_pairs(splits.X_test, best.y_true, best.y_prob, classes, title, notes)

# %% [markdown]
# The wrong answers with the highest confidence. Some of the labels can be doubted.

# %%
title = f"{best.name}: surest mistakes, predicted, confidence (true)"
mistake_grid(splits.X_test, best.y_true, best.y_prob, classes, title, notes)

# %% [markdown]
# ## Train one yourself
#
# Any key of `conf/` can be changed. Here a smaller dense network, by hand, for a few epochs on a part of the images:

# %%
overrides = ["experiment=fashion_dense", "engine=scratch", "model.hidden_units=[64]", "optimizer=adam"]
overrides += [f"epochs={EPOCHS}", f"profile.samples={SAMPLES}"]
mine = config.experiment(config.compose(root, "train", overrides))
run = train(mine, root / "outputs" / "notebooks" / "fashion_mine", root=root)
title = f"64 hidden units, {run.metrics['test/accuracy']:.1%} right on the test split"
learning_curves(run.full_history(), title, notes)
