"""What a sweep has to know of Hydra's launchers: whether one can work here, and what a job of it may use."""

import importlib.util
import os
import socket
from collections.abc import Mapping
from typing import Any

from joblib import cpu_count

from twinnet.core.errors import ConfigError

PLUGINS = {  # launcher -> module, package, extra of this project
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "hydra-joblib-launcher", None),
    "ray": ("hydra_plugins.hydra_ray_launcher", "hydra-ray-launcher", "ray"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "hydra-submitit-launcher", "slurm"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "hydra-submitit-launcher", "slurm"),
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
RAY_SECONDS = 3.0  # for the head node of a cluster to answer


def check(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError where the launcher is not installed, or its Ray cluster or SLURM is not there.

    `settings` is the composed hydra.launcher. Ray is started or joined here; its launcher finds it running.
    """
    if name in PLUGINS:
        module, package, extra = PLUGINS[name]
        if importlib.util.find_spec(module) is None:
            wanted = f"'twinnet[{extra}]'" if extra else package
            raise ConfigError(
                f"hydra/launcher={name}: expected the package {package}; it is not installed; run pip install {wanted}"
            )
    if name == "ray":
        _join_ray(dict(settings["ray"]["init"]))
    if name == "submitit_slurm":
        _check_slurm()


def threads(name: str, settings: Mapping[str, Any]) -> int | None:
    """How many threads a job may use, so that all jobs of a machine together use its cores; None: as many as it likes.

    joblib: the cores divided among the processes; Ray and SLURM: the CPUs that each job is given.
    """
    if name == "joblib":
        processes = int(settings["n_jobs"])
        return max(1, cpu_count() // (processes if processes > 0 else max(1, cpu_count() + 1 + processes)))
    given = settings["ray"]["remote"].get("num_cpus") if name == "ray" else settings.get("cpus_per_task")
    return max(1, int(given)) if given else None


def at_once(name: str, settings: Mapping[str, Any]) -> int | None:
    """How many jobs to give the launcher in one go; None is all. submitit_local starts all it is given at once."""
    return max(1, cpu_count() // (threads(name, settings) or 1)) if name == "submitit_local" else None


def limit_threads(number: int | None) -> None:
    """Keep this process to so many threads; libraries that are not loaded yet read it from the environment."""
    if number is None:
        return
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(number)))
    from threadpoolctl import threadpool_limits  # for BLAS libraries that are loaded already

    threadpool_limits(number)


def _join_ray(init: dict[str, Any]) -> None:
    import ray

    address = init.get("address") or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        return
    if address == "auto":
        address = _running_ray()
    if address and address != "local":
        _answers(address)
    try:
        ray.init(**init)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"hydra.launcher.ray.init: Ray does not start: {reason[:300]}{_token(address)}") from error


def _token(address: str | None) -> str:
    """What most often keeps Ray, whose own message does not say so, from a cluster that does answer."""
    if not address or os.environ.get("RAY_AUTH_MODE"):
        return ""
    return "; a cluster with a token wants RAY_AUTH_MODE=token here, and its ~/.ray/auth_token"


def _running_ray() -> str:
    """The address of the cluster that this machine belongs to."""
    from ray._private.services import find_gcs_addresses  # what address=auto asks; Ray has no public function for it

    found = sorted(find_gcs_addresses())
    if not found:
        raise ConfigError(
            "hydra.launcher.ray.init.address=auto: expected a Ray cluster on this machine; found none; "
            "start one (ray start --head), or leave the address out"
        )
    return found[0]


def _answers(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=RAY_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"hydra.launcher.ray.init.address={address}: expected a Ray cluster there; it does not answer ({error}); "
            "start one (ray start --head), or use address=auto or no address"
        ) from error


def _check_slurm() -> None:
    from shutil import which

    if which("srun") is None:
        raise ConfigError(
            "hydra/launcher=submitit_slurm: expected SLURM's programs (sbatch, srun) on this machine; found none; "
            "start the sweep on a login node, or use hydra/launcher=joblib"
        )
