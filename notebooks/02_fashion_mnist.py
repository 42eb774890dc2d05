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
# # Fashion-MNIST: from a dense network to a convolutional one
#
# 70,000 grey pictures of clothes, 28 x 28 pixels, ten classes. This notebook reads the finished runs of the suite, so
# `make repro` comes first; only the last section trains, for a minute or two. [正體中文](02_fashion_mnist.zh-TW.html)

# %% [markdown] tags=["zh-TW"]
# # 時裝 MNIST：從密集層到卷積神經網路
#
# 70,000 張衣物的灰階圖片，28 x 28 像素，十個類別。這份筆記本讀取整組實驗完成的結果，所以先執行 `make repro`；只有最後一節會訓練一兩分鐘。[English](02_fashion_mnist.html)

# %% tags=["parameters"]
EPOCHS = 2
SAMPLES = 10_000

# %%
# %matplotlib inline
import logging

from twinnet import show
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

# %% [markdown] tags=["en"]
# ## The data
#
# The first 5,000 training images are for validation; the 10,000 test images decide at the end. Pixels go from 0 to 255
# and are divided by 255 before training, except in the runs of the chapter's network.

# %% [markdown] tags=["zh-TW"]
# ## 資料
#
# 訓練圖片的前 5,000 張用來驗證，最後由 10,000 張測試圖片決定。像素介於 0 與 255 之間，訓練之前除以 255，章節網路的那幾次訓練除外。

# %%
experiment = best.experiment
classes = experiment.data.classes
splits = load_splits(experiment.data, root=root, samples=experiment.limits.samples)
notes = figures.notes(splits.source, experiment)
print("training", splits.X_train.shape, "validation", splits.X_valid.shape, "test", splits.X_test.shape)
figures.sample_grid(splits.X_train, splits.y_train, classes, "the first training samples", notes)

# %% [markdown] tags=["en"]
# ## The chapter's dense network, twice
#
# 784 pixels, three hidden layers of 256 sigmoid units, ten outputs: 335,114 parameters, five epochs of Adam on raw
# pixels. The chapter reports 74.68% on the validation images. `fashion_dense_scratch` is the same network propagated by
# hand; both start from the same weights and see the same batches in the same order. Numbers of 32 bits round
# differently in the two engines, and on raw pixels that grows.

# %% [markdown] tags=["zh-TW"]
# ## 章節的密集層網路，兩次
#
# 784 個像素、三個各有 256 個 sigmoid 單位的隱藏層、十個輸出：335,114 個係數，在原始像素上以 Adam 訓練五個 epoch。章節回報的驗證準確率是 74.68%。`fashion_dense_scratch` 是同一個網路，前向與反向傳播皆為手寫；兩者從相同的權重開始，以相同的順序看到相同的批次。32 位元的數字在兩個引擎的捨入不同，而原始像素會放大這個差異。

# %%
twins = {name: runs[name].full_history() for name in ("fashion_dense_book", "fashion_dense_scratch") if name in runs}
first = {name: f"{history.valid_loss[0]:.4f}" for name, history in twins.items()}
print(f"validation loss after the first epoch: {first or 'needs fashion_dense_book and fashion_dense_scratch'}")
curves(
    twins or {best.name: best.full_history()}, "accuracy", "the chapter's network, by Keras and by hand", notes=notes
)

# %% [markdown] tags=["en"]
# ## What the description changes
#
# All networks come from the same kind of description: a model, an activation, initial weights, and the task, which
# determines the output layer. A convolution looks for the same pattern everywhere in the picture, so its weights do not
# grow with the picture. The layers of the best network:

# %% [markdown] tags=["zh-TW"]
# ## 描述改變了什麼
#
# 所有網路都出自同一種描述：模型、啟動函式、初始權重，以及決定輸出層的任務。卷積在圖片的每個位置尋找相同的圖樣，所以它的權重不會隨著圖片變大而增加。最佳網路的各層：

# %%
network = build_network(experiment)
print(f"{best.name}: {network.parameters():,} parameters")
show.layers(network)

# %%
print(f"{best.name}: {best.metrics['test/accuracy']:.2%} right on the test split")
board.set_index("experiment")[["accuracy", "low", "high", "loss", "parameters", "epochs", "seconds"]]

# %%
histories = {name: run.full_history() for name, run in runs.items()}
curves(histories, "accuracy", f"{len(runs)} networks on the same images", notes=notes)

# %% [markdown] tags=["en"]
# `low` and `high` bound each accuracy at 95%. `reports/comparison/comparison.md` has the paired tests: the differences
# that are more than chance.
#
# ## Mistakes
#
# The pairs of classes that a network confuses are mostly those that a person also confuses at 28 x 28 pixels.

# %% [markdown] tags=["zh-TW"]
# `low` 與 `high` 是各個準確率的 95% 界限。`reports/comparison/comparison.md` 有成對檢定：哪些差異不只是運氣。
#
# ## 錯誤
#
# 網路混淆的類別，大多也是人在 28 x 28 像素下會混淆的類別。

# %%
title = f"{best.name}: {best.is_correct.mean():.2%} right, test split"
confusion_matrix(best.y_true, best.y_pred, classes, title, notes)

# %% [markdown] tags=["en"]
# The pairs of classes that it confuses most often, and mistakes among them:

# %% [markdown] tags=["zh-TW"]
# 它最常混淆的成對類別，以及其中的錯誤：

# %%
title = f"{best.name}: predicted, confidence (true)"
hardest_pairs(splits.X_test, best.y_true, best.y_prob, classes, title, notes)

# %% [markdown] tags=["en"]
# The wrong answers with the highest confidence. Some of the labels can be doubted.

# %% [markdown] tags=["zh-TW"]
# 信心最高的錯誤答案。有些標籤本身就令人懷疑。

# %%
title = f"{best.name}: surest mistakes, predicted, confidence (true)"
mistake_grid(splits.X_test, best.y_true, best.y_prob, classes, title, notes)

# %% [markdown] tags=["en"]
# ## Train one yourself
#
# Any key of `conf/` can be changed. Here a smaller dense network, by hand, for a few epochs on a part of the images:

# %% [markdown] tags=["zh-TW"]
# ## 自己訓練一個
#
# `conf/` 的任何鍵都可以改變。這裡以手寫的引擎訓練一個較小的密集層網路，只用部分圖片訓練幾個 epoch：

# %%
overrides = ["experiment=fashion_dense", "engine=scratch", "model.hidden_units=[64]", "optimizer=adam"]
overrides += [f"epochs={EPOCHS}", f"profile.samples={SAMPLES}"]
mine = config.experiment(config.compose(root, "train", overrides))
run = train(mine, root / "outputs" / "notebooks" / "fashion_mine", root=root)
title = f"64 hidden units, {run.metrics['test/accuracy']:.1%} right on the test split"
learning_curves(run.full_history(), title, notes)
