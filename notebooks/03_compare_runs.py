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
# # Compare runs
#
# Every training is a run in the MLflow store: those of `make repro`, single runs of `python -m twinnet.train`, and the
# jobs of a sweep. `make ui` shows them in a browser; this notebook reads them as tables. It needs `make repro`, and
# trains a small sweep of a few seconds.

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
import pandas as pd
from IPython.display import Image

from twinnet.compare.figures import curves
from twinnet.compare.seeds import over_seeds
from twinnet.core import paths
from twinnet.sweeps.figures import plot_sweep
from twinnet.tracking.search_runs import runs_table
from twinnet.tracking.store import tracking_uri

root = paths.root()
mlflow.set_tracking_uri(tracking_uri(root))

# %% [markdown]
# ## The runs of a data set
#
# There is one MLflow experiment for each data set, and a finished run has its final scores under the same few keys.
# These are the runs that the pipeline trained, the newest first.

# %%
trained_by_dvc = "attributes.status = 'FINISHED' AND tags.`dvc.stage` LIKE 'train%'"
runs = mlflow.search_runs(experiment_names=["nba"], filter_string=trained_by_dvc).set_index("tags.mlflow.runName")
columns = ["metrics.valid/accuracy", "metrics.valid/loss", "metrics.epochs", "metrics.seconds", "tags.data_source"]
runs[columns].rename_axis(None)

# %% [markdown]
# ## The twins on each other
#
# The curves are artifacts of their runs: at most 1,000 rows each, read here for the newest run of either engine.

# %%
twins = {
    name: pd.read_csv(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="history/history.csv"))
    for name, run_id in runs.groupby(level=0)["run_id"].first()[["nba_scratch", "nba_keras"]].items()
}
curves(twins, "accuracy", "the twins: by hand, and Keras on top of it")

# %%
difference = (twins["nba_scratch"] - twins["nba_keras"]).abs().max()
difference.drop("epoch").to_frame("largest difference in any recorded epoch")

# %% [markdown]
# ## The boundary they found
#
# Figures are artifacts too.

# %%
found = runs.groupby(level=0)["run_id"].first()["nba_scratch"]
Image(mlflow.artifacts.download_artifacts(run_id=found, artifact_path="figures/decision_boundary.png"), width=640)

# %% [markdown]
# ## Several seeds, several learning rates
#
# A sweep is one command: every combination of the values is a job and a run of its own. Asked for again, it takes the
# finished jobs from the disk.

# %%
overrides = ["experiment=nba_scratch", f"epochs={EPOCHS}", f"seed={SEEDS}", f"optimizer.learning_rate={RATES}"]
sweep = subprocess.run(
    [sys.executable, "-m", "twinnet.train", "-m", *overrides], cwd=root, capture_output=True, text=True
)
print(sweep.stdout[-1500:] if sweep.returncode == 0 else sweep.stderr[-1500:])

# %% [markdown]
# One row of the store is a run; seeds of the same configuration belong together. Mean and standard deviation over the
# seeds say whether a better score is more than a lucky start.

# %%
table = over_seeds(runs_table(root=root, datasets=["nba"]))
table[["experiment", "overrides", "seeds", "score", "mean", "sd", "loss"]].head(12)

# %%
swept = mlflow.search_runs(experiment_names=["nba"], filter_string=f"params.epochs = '{EPOCHS}'")
plot_sweep(swept, "optimizer.learning_rate", "valid/loss", "validation loss by learning rate, each seed and their mean")
