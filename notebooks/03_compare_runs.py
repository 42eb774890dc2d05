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
runs = mlflow.search_runs(experiment_names=["nba"], filter_string=trained_by_dvc)
assert len(runs), "needs the runs of nba in the store: make repro"
columns = ["metrics.valid/accuracy", "metrics.valid/loss", "metrics.epochs", "metrics.seconds", "tags.data_source"]
runs.set_index("tags.mlflow.runName")[columns].rename_axis(None)

# %% [markdown]
# ## The twins on each other
#
# The twins are a run of either engine with the same settings: a run of `dvc exp run -S ...` with another learning rate
# has another twin. The curves are artifacts of their runs, at most 1,000 rows each; these are of the newest pair.

# %%
apart = ("params.engine.", "params.name", "params.description")  # what the twins may differ in
same = [name for name in runs if name.startswith("params.") and not name.startswith(apart)]
of_engine = {name: runs[runs["tags.mlflow.runName"].str.startswith(name)] for name in ("nba_scratch", "nba_keras")}
pairs = of_engine["nba_scratch"].merge(of_engine["nba_keras"], on=same, suffixes=("/nba_scratch", "/nba_keras"))
assert len(pairs), "needs nba_scratch and nba_keras of the same settings: dvc repro train@nba_scratch train@nba_keras"
twin_ids = {name: pairs[f"run_id/{name}"].iloc[0] for name in of_engine}
twins = {
    name: pd.read_csv(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="history/history.csv"))
    for name, run_id in twin_ids.items()
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
figure = {"run_id": twin_ids["nba_scratch"], "artifact_path": "figures/decision_boundary.png"}
Image(mlflow.artifacts.download_artifacts(**figure), width=640)

# %% [markdown]
# ## Several seeds, several learning rates
#
# A sweep is one command: every combination of the values is a job and a run of its own. A second time, it takes the
# finished jobs from the disk.

# %%
overrides = ["experiment=nba_scratch", f"epochs={EPOCHS}", f"seed={SEEDS}", f"optimizer.learning_rate={RATES}"]
sweep = subprocess.run(
    [sys.executable, "-m", "twinnet.train", "-m", *overrides], cwd=root, capture_output=True, text=True
)
print(sweep.stdout[-1500:] if sweep.returncode == 0 else sweep.stderr[-1500:])

# %% [markdown]
# Its table names the run of each job. Seeds of the same configuration belong together: mean and standard deviation over
# the seeds say whether a better score is more than a lucky start.

# %%
jobs = pd.read_csv(max((root / "outputs/sweeps").glob("*/summary.csv")))
stored = runs_table(root=root, datasets=["nba"])
table = over_seeds(stored[stored["run_id"].isin(jobs["run_id"])])
table[["experiment", "overrides", "seeds", "score", "mean", "sd", "loss"]]

# %%
swept = mlflow.search_runs(experiment_names=["nba"]).set_index("run_id").loc[jobs["run_id"]]
plot_sweep(swept, "optimizer.learning_rate", "valid/loss", "validation loss by learning rate, each seed and their mean")
