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

# %% [markdown] tags=["en"]
# # What does `fit` do?
#
# A network is trained in one line, `model.fit(X, y)`. This notebook takes that line apart on a question from
# basketball: do assists and rebounds per game tell a guard from a forward?
#
# It needs the data of `make repro` and takes two or three minutes. [正體中文](01_what_fit_does.zh-TW.html)

# %% [markdown] tags=["zh-TW"]
# # `fit` 做了什麼？
#
# 訓練一個網路只需要一行 `model.fit(X, y)`。這份筆記本以一個籃球問題拆解這一行：場均助攻與場均籃板能不能分辨後衛與前鋒？
#
# 需要 `make repro` 的資料，執行時間約兩三分鐘。[English](01_what_fit_does.html)

# %% tags=["parameters"]
EPOCHS = 100_000
FRAMES = [1, 1_000, 5_000, 10_000, 20_000, 25_000, 30_000, 35_000, 40_000, 50_000, 70_000, 100_000]

# %%
# %matplotlib inline
import logging

import numpy as np
import pandas as pd
from IPython.display import HTML

from twinnet import DeepLearning, show, walkthrough
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

# %% [markdown] tags=["en"]
# ## The data
#
# One row is a player of the season. `apg` and `rpg` are assists and rebounds per game; a player whose position begins
# with G is a guard, every other one a forward.

# %% [markdown] tags=["zh-TW"]
# ## 資料
#
# 每一列是該球季的一位球員。`apg` 與 `rpg` 是場均助攻與場均籃板；鋒衛位置以 G 開頭的球員是後衛，其餘都是前鋒。

# %%
table = root / "data/processed/nba/table.csv"
assert table.is_file(), "needs the data of nba: dvc repro preprocess@nba"
players = pd.read_csv(table)
print(f"{len(players)} players, {players['is_forward'].mean():.0%} of them forwards")
players[["apg", "rpg", "is_forward"]].describe().round(2)

# %% [markdown] tags=["en"]
# An *experiment* says everything about a training: data, model, engine, optimizer, epochs, seed. It is composed from
# `conf/` and can be changed key by key, here as on the command line.

# %% [markdown] tags=["zh-TW"]
# 一個**實驗**描述一次訓練的全部：資料、模型、引擎、最適化演算方法、epoch 數、亂數種子。它由 `conf/` 組合而成，每個鍵都可以改變，在這裡與在命令列上的寫法相同。

# %%
overrides = ["experiment=nba_scratch", "engine=scratch_numpy", f"epochs={EPOCHS}"]
scratch = config.experiment(config.compose(root, "train", overrides))
splits = load_splits(scratch.data, root=root, dtype=scratch.engine.dtype.value)
notes = run.notes(splits.source, scratch)
axis_names = [run.AXIS_NAMES[feature] for feature in scratch.data.features]
print("training", splits.X_train.shape, "validation", splits.X_valid.shape, "data from:", splits.source)
sample_plane(splits, scratch.data.classes, axis_names, "guards and forwards of the training split", notes)

# %% [markdown] tags=["en"]
# Rebounds pull one way and assists the other: a straight line through the middle would already do well. How does a
# network find it?
#
# ## The network
#
# Two inputs, four hidden units, one output unit, each unit a sigmoid. The hidden layer has 4 x 2 weights and 4 biases,
# the output layer 4 weights and 1 bias: 17 parameters.

# %% [markdown] tags=["zh-TW"]
# 籃板往一邊拉，助攻往另一邊拉：中間畫一條直線就已經分得不錯。網路如何找到這條線？
#
# ## 網路
#
# 兩個輸入、四個隱藏單位、一個輸出單位，每個單位都是 sigmoid。隱藏層有 4 x 2 個權重與 4 個偏差，輸出層有 4 個權重與 1 個偏差：共 17 個係數。

# %%
network = build_network(scratch)
print(f"{network.parameters()} parameters")
show.layers(network)

# %% [markdown] tags=["en"]
# ## Keras as the chapter printed it
#
# The chapter trains this network in Keras for five epochs with the loss `categorical_crossentropy`. Nothing moves, not
# in the loss, not in the accuracy:

# %% [markdown] tags=["zh-TW"]
# ## 章節裡的 Keras
#
# 章節以損失函式 `categorical_crossentropy` 在 Keras 訓練這個網路五個 epoch。損失與準確率都一動也不動：

# %%
book = config.experiment(config.compose(root, "train", ["experiment=nba_keras_book"]))
printed = train(book, out / "nba_keras_book", root=root)
printed.history

# %% [markdown] tags=["en"]
# The run says why:

# %% [markdown] tags=["zh-TW"]
# 執行結果會說明原因：

# %%
print("\n".join(printed.warnings))

# %% [markdown] tags=["en"]
# With one output unit the loss first divides the output by the sum over the outputs, which is itself. The prediction
# becomes 1 for every player whatever the weights are, its logarithm 0, its derivative 0. What remains of the training
# loss, and what the chapter prints, is the distance that Keras keeps between a probability and 1 before it takes a
# logarithm. Without `allow_degenerate=true`, such an experiment is refused before any data is loaded. The loss that
# fits one sigmoid unit is the binary cross-entropy, and from here on that is the loss.

# %% [markdown] tags=["zh-TW"]
# 只有一個輸出單位時，這個損失函式會先將輸出除以所有輸出的總和，也就是它自己。不論權重為何，每位球員的預測都成為 1，其對數是 0，導數也是 0。剩下的訓練損失，也就是章節印出的數字，是 Keras 取對數之前讓機率與 1 保持的距離。沒有 `allow_degenerate=true`，這樣的實驗在載入任何資料之前就會被拒絕。適合單一 sigmoid 單位的損失函式是二元交叉熵，從這裡開始都使用它。

# %% [markdown] tags=["en"]
# ## One step by hand
#
# Training repeats one step: *forward* through the layers to a prediction, the *loss* of that prediction, *backward*
# through the layers by the chain rule to the derivative of the loss by each parameter, and an *update* of each
# parameter against its derivative. Here is the very first step on a single player, with its numbers; each heading
# names the function that computed them. `docs/mathematics.md` has the derivations.

# %% [markdown] tags=["zh-TW"]
# ## 手寫的一步
#
# 訓練不斷重複同一步：**前向傳播**逐層得到預測，計算預測的**損失**，**反向傳播**以連鎖法則逐層得到損失對每個係數的導數，再依導數的反方向**更新**每個係數。以下是對一位球員的第一步，附上所有數字；每個標題寫出計算它的函式。推導見 `docs/mathematics.md`。

# %%
step = walkthrough.take_step(scratch, splits.X_train[1], splits.y_train[1])
print(walkthrough.text(step))

# %% [markdown] tags=["en"]
# Each part is a table as well, for example the derivatives at the output layer:

# %% [markdown] tags=["zh-TW"]
# 每個部分也都是一張表，例如輸出層的導數：

# %%
step.layers[-1].backward()

# %% [markdown] tags=["en"]
# ## Every epoch by hand
#
# With all players at once the derivatives are means over the players; that is the only difference. The same step,
# over and over:

# %% [markdown] tags=["zh-TW"]
# ## 手寫的每個 epoch
#
# 同時使用所有球員時，導數是所有球員的平均，這是唯一的差別。同一步一再重複：

# %%
by_hand = train(scratch, out / "nba_scratch", root=root)
learning_curves(
    by_hand.full_history(), f"by hand, {by_hand.metrics['valid/accuracy']:.1%} right on the validation split", notes
)

# %% [markdown] tags=["en"]
# For a long time next to nothing seems to happen: all weights begin positive, so every hidden unit says almost the
# same thing, and the loss rests near log 2, the loss of a coin. Then the units part, and the network learns. The axis
# is logarithmic. How long the rest is:

# %% [markdown] tags=["zh-TW"]
# 有很長一段時間看來什麼也沒發生：所有權重一開始都是正數，每個隱藏單位說的幾乎是同一件事，損失停在 log 2 附近，等於擲硬幣的損失。接著各個單位分道揚鑣，網路開始學習。橫軸是對數尺度。停留了多久：

# %%
losses = by_hand.full_history().arrays()["train/loss"]
resting = np.abs(losses - np.log(2)) < 0.02

# %% tags=["en"]
print(
    f"within 0.02 of log 2 = {np.log(2):.4f} in {resting.sum():,} of {len(losses):,} epochs; at last {losses[-1]:.4f}"
)

# %% tags=["zh-TW"]
print(
    f"{len(losses):,} 個 epoch 之中有 {resting.sum():,} 個與 log 2 = {np.log(2):.4f} 相差不到 0.02；最後是 {losses[-1]:.4f}"
)

# %% [markdown] tags=["en"]
# The chapter's class is kept, as a scikit-learn classifier. It draws the same weights and takes the same steps, so that
# not a bit of its loss differs:

# %% [markdown] tags=["zh-TW"]
# 章節的類別保留下來，成為 scikit-learn 的分類器。它抽出相同的權重，走相同的每一步，損失連一個位元也沒有差別：

# %%
network = DeepLearning([2, 4, 1], random_state=0, array="numpy")
network.fit(splits.X_train, splits.y_train, epochs=EPOCHS, learning_rate=0.001)
print(f"{network.score(splits.X_valid, splits.y_valid):.1%} right on the validation split")
print(
    "largest difference from the run above:",
    abs(network.loss_history_ - by_hand.full_history().arrays()["train/loss"]).max(),
)

# %% [markdown] tags=["en"]
# ## Both engines, one curve
#
# `nba_keras` is the twin: the same initial weights, loss, batches and updates, computed by Keras. If our forward and
# back propagation are right, the two curves cannot be told apart.

# %% [markdown] tags=["zh-TW"]
# ## 兩個引擎，一條曲線
#
# `nba_keras` 是雙胞胎：相同的初始權重、損失函式、批次與更新，由 Keras 計算。如果我們的前向傳播與反向傳播是對的，兩條曲線就無法分辨。

# %%
twin = config.experiment(config.compose(root, "train", ["experiment=nba_keras", f"epochs={EPOCHS}"]))
by_keras = train(twin, out / "nba_keras", root=root)
twins = {"nba_scratch": by_hand.full_history(), "nba_keras": by_keras.full_history()}
curves(twins, "accuracy", "the twins: by hand, and Keras on top of it", notes=notes)

# %%
difference = (by_hand.history - by_keras.history).abs().max()
difference.drop("epoch").to_frame("largest difference in any recorded epoch")

# %% [markdown] tags=["en"]
# ## The boundary as it forms
#
# The network gives each point of the plane a probability of being a forward. The black line is where it is one half.

# %% [markdown] tags=["zh-TW"]
# ## 決策邊界的形成
#
# 網路為平面上的每一點給出身為前鋒的機率，黑線是機率為二分之一的位置。

# %%
networks = train_snapshots(scratch, splits, FRAMES)
predictions = {epochs: fitted.predict for epochs, fitted in networks.items()}
title = "the decision boundary as it forms"
boundary_frames(splits, predictions, scratch.data.classes, axis_names, title, notes)

# %%
HTML(boundary_animation(splits, predictions, scratch.data.classes, axis_names, title, notes))

# %% [markdown] tags=["en"]
# At first no line at all: everybody is a forward. Then it enters from the corner of the players who hardly played,
# turns, and settles between the two groups. It stays almost straight, because two features that pull against each
# other need no more; the four hidden units could bend it.
# %% [markdown] tags=["zh-TW"]
# 一開始沒有任何線：每個人都是前鋒。接著線從幾乎沒有上場的球員所在的角落進入，轉向，最後停在兩群之間。它幾乎保持筆直，因為互相拉扯的兩個特徵不需要更多；四個隱藏單位其實可以讓它彎曲。
