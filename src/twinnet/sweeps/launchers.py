"""Hydra's launchers: whether one works here, and how many threads and parallel jobs it allows."""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from joblib import cpu_count
from threadpoolctl import threadpool_limits

from twinnet.core.errors import ConfigError
from twinnet.sweeps import ray_cluster, slurm

PLUGINS = {  # launcher -> module, extra of this project
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
}
# Read by OpenBLAS and OpenMP, by XLA, and by TensorFlow, when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NPROC",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def check_installed(key: str, module: str, extra: str) -> None:
    """Raise ConfigError unless the module that `key` needs is installed, as an extra of this project does."""
    if importlib.util.find_spec(module) is None:
        package = module.rpartition(".")[2].replace("_", "-")
        raise ConfigError(
            f"{key}: expected the package {package}; it is not installed; run uv pip install -e '.[{extra}]'"
        )


def check(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if the launcher is not installed, or if its Ray cluster or SLURM cannot be reached.

    `settings` is the composed hydra.launcher. Ray is started or joined here, before its launcher.
    """
    if name in PLUGINS:
        check_installed(f"hydra/launcher={name}", *PLUGINS[name])
    if name == "ray":
        ray_cluster.check(dict(settings["ray"]["init"]))
    if name == "submitit_slurm":
        slurm.check(settings)


def threads(name: str, settings: Mapping[str, Any]) -> int | None:
    """Return how many threads a job may use, so that the jobs of a machine share its cores; None: no limit.

    joblib: the cores divided among the processes; Ray and SLURM: the CPUs that each job is given.
    """
    if name == "joblib":
        processes = int(settings["n_jobs"])
        return max(1, cpu_count() // (processes if processes > 0 else max(1, cpu_count() + 1 + processes)))
    given = settings["ray"]["remote"].get("num_cpus") if name == "ray" else settings.get("cpus_per_task")
    return max(1, int(given)) if given else None


def max_parallel(name: str, settings: Mapping[str, Any]) -> int | None:
    """Return how many jobs to give the launcher in one call; None: all. submitit_local starts all of them at once."""
    if name == "submitit_slurm":
        return slurm.MAX_ARRAY
    return max(1, cpu_count() // (threads(name, settings) or 1)) if name == "submitit_local" else None


def limit_threads(number: int | None) -> None:
    """Limit the threads of this process: by environment variables for libraries that are not loaded yet."""
    if number is None:
        return
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(number)))
    threadpool_limits(number)  # BLAS and OpenMP libraries that are loaded already
