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
# # Compare runs
#
# Every training is a run in the MLflow store: those of `make repro`, single runs of `python -m twinnet.train`, and the
# jobs of a sweep. `make ui` shows them in a browser; this notebook reads them as tables. It needs `make repro`, and
# trains a small sweep of a few seconds. [正體中文](03_compare_runs.zh-TW.html)

# %% [markdown] tags=["zh-TW"]
# # 比較結果
#
# 每次訓練都是 MLflow 裡的一筆紀錄：`make repro` 的、`python -m twinnet.train` 單次訓練的，以及掃描的每一個工作。`make ui` 在瀏覽器裡顯示它們，這份筆記本則把它們讀成表格。需要先執行 `make repro`，並會訓練一個幾秒鐘的小掃描。[English](03_compare_runs.html)

# %% tags=["parameters"]
EPOCHS = 2_000
SEEDS = "1,2,3"
RATES = "0.01,0.1,1"

# %%
# %matplotlib inline
import os
import subprocess
import sys
import warnings

warnings.filterwarnings("ignore", "IProgress not found")
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

import mlflow
import numpy as np
import pandas as pd
from IPython.display import Image

from twinnet.compare.figures import curves
from twinnet.compare.seeds import over_seeds
from twinnet.core import paths
from twinnet.core.history import History
from twinnet.sweeps.figures import plot_sweep
from twinnet.tracking.search_runs import runs_table
from twinnet.tracking.store import tracking_uri

root = paths.root()
mlflow.set_tracking_uri(tracking_uri(root))

# %% [markdown] tags=["en"]
# ## The runs of a data set
#
# There is one MLflow experiment for each data set. A finished run has its scores under `final/`; without it, a key is
# the curve over the epochs. These are the runs that the pipeline trained, the newest first.

# %% [markdown] tags=["zh-TW"]
# ## 一個資料集的結果
#
# 每個資料集是一個 MLflow 實驗。完成的訓練把分數記錄在 `final/` 之下，其餘同名的鍵則是各個 epoch 的曲線。以下是管線訓練的結果，最新的在前。

# %%
trained_by_dvc = "attributes.status = 'FINISHED' AND tags.`dvc.stage` LIKE 'train%'"
runs = mlflow.search_runs(experiment_names=["nba"], filter_string=trained_by_dvc)
assert len(runs), "needs the runs of nba in the store: make repro"
columns = ["metrics.final/valid/accuracy", "metrics.final/valid/loss", "metrics.epochs", "tags.data_source"]
runs.set_index("tags.mlflow.runName")[columns].rename_axis(None)

# %% [markdown] tags=["en"]
# ## The twins on each other
#
# The twins are a run of either engine with the same settings: a run of `dvc exp run -S ...` with another learning rate
# has another twin. The curves are artifacts of their runs; these are of the newest pair.

# %% [markdown] tags=["zh-TW"]
# ## 疊在一起的雙胞胎
#
# 雙胞胎是兩個引擎以相同設定訓練的一對結果：以 `dvc exp run -S ...` 改變學習速率的訓練，有另一個雙胞胎。曲線是各次訓練的產出；這裡取最新的一對。

# %%
apart = ("params.engine.", "params.name", "params.description")  # what the twins may differ in
same = [name for name in runs if name.startswith("params.") and not name.startswith(apart)]
of_engine = {name: runs[runs["tags.experiment"] == name] for name in ("nba_scratch", "nba_keras")}
pairs = of_engine["nba_scratch"].merge(of_engine["nba_keras"], on=same, suffixes=("/nba_scratch", "/nba_keras"))
assert len(pairs), "needs nba_scratch and nba_keras of the same settings: dvc repro train@nba_scratch train@nba_keras"
twin_ids = {name: pairs[f"run_id/{name}"].iloc[0] for name in of_engine}
twins = {}
for name, run_id in twin_ids.items():
    file = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="history/history.npz")
    twins[name] = History.restore("accuracy", np.load(file))
curves(twins, "accuracy", "the twins: by hand, and Keras on top of it")

# %%
difference = (twins["nba_scratch"].table() - twins["nba_keras"].table()).abs().max()
difference.drop("epoch").to_frame("largest difference in any recorded epoch")

# %% [markdown] tags=["en"]
# ## The boundary they found
#
# Figures are artifacts too.

# %% [markdown] tags=["zh-TW"]
# ## 它們找到的邊界
#
# 圖也是產出。

# %%
figure = {"run_id": twin_ids["nba_scratch"], "artifact_path": "figures/decision_boundary.png"}
Image(mlflow.artifacts.download_artifacts(**figure), width=640)

# %% [markdown] tags=["en"]
# ## Several seeds, several learning rates
#
# A sweep is one command: every combination of the values is a job and a run of its own. A second time, it takes the
# finished jobs from the disk.

# %% [markdown] tags=["zh-TW"]
# ## 幾個亂數種子，幾個學習速率
#
# 一個掃描就是一個指令：各個值的每種組合都是一個工作，各有自己的紀錄。第二次執行時，完成的工作直接取自磁碟。

# %%
overrides = ["experiment=nba_scratch", f"epochs={EPOCHS}", f"seed={SEEDS}", f"optimizer.learning_rate={RATES}"]
sweep = subprocess.run(
    [sys.executable, "-m", "twinnet.train", "-m", *overrides], cwd=root, capture_output=True, text=True
)
print(sweep.stdout[-1500:] if sweep.returncode == 0 else sweep.stderr[-1500:])

# %% [markdown] tags=["en"]
# Its table names the run of each job. Seeds of the same configuration belong together: mean and standard deviation over
# the seeds say whether a better score is more than a lucky start.

# %% [markdown] tags=["zh-TW"]
# 它的表格列出每個工作的紀錄。相同設定的亂數種子應該一起看：種子之間的平均與標準差，說明較好的分數是不是只是幸運的起點。

# %%
jobs = pd.read_csv(max((root / "outputs/sweeps").glob("*/summary.csv")))
stored = runs_table(root=root, datasets=["nba"])
table = over_seeds(stored[stored["run_id"].isin(jobs["run_id"])])
table[["experiment", "overrides", "seeds", "score", "mean", "sd", "loss"]]

# %%
swept = mlflow.search_runs(experiment_names=["nba"]).set_index("run_id").loc[jobs["run_id"]]
plot_sweep(
    swept, "optimizer.learning_rate", "final/valid/loss", "validation loss by learning rate, each seed and their mean"
)
