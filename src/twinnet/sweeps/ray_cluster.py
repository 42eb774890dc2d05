"""A sweep on a Ray cluster, whose machines may share nothing: each job ends with its own result or reason."""

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import open_dict

from twinnet.core.errors import ConfigError, TwinnetError, one_line_text
from twinnet.sweeps import cache
from twinnet.sweeps.job import JobResult, Status, SweepContext, write_result

RAY_SECONDS = 3.0  # for the head node of a cluster to answer
# Of the process that leads: else Ray notices after seven minutes that a machine with a job of ours has lost its power.
KEEPALIVE = {"RAY_grpc_client_keepalive_time_ms": "10000", "RAY_grpc_client_keepalive_timeout_ms": "20000"}


def check(init: dict[str, Any]) -> None:
    """Start or join the cluster; `init` is the composed hydra.launcher.ray.init. Raises ConfigError."""
    for name, value in KEEPALIVE.items():
        os.environ.setdefault(name, value)
    import ray  # 1 s, and an extra

    address = init.get("address") or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        return
    if address == "auto":
        address = _local_ray_address()
    if address and address != "local":
        _check_reachable(address)
    try:
        ray.init(**init)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        reason = one_line_text(error)
        raise ConfigError(
            f"hydra.launcher.ray.init: Ray does not start: {reason[:300]}{_auth_hint(address)}"
        ) from error


def launch(launcher: Any, overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Run each job, and return its result or why there is none; Hydra's launcher raises at the first failed job."""
    import ray  # 1 s, and an extra, as is the launcher
    from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

    setup_globals()
    context: SweepContext = launcher.task_function.keywords["context"]
    jobs: dict[Any, int] = {}  # Ray's reference -> number among these jobs
    for number, words in enumerate(overrides):
        job = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(words))
        with open_dict(job):
            job.hydra.job.id, job.hydra.job.num = f"job_id_for_{first + number}", first + number
        task, state = launcher.task_function, Singleton.get_state()
        jobs[launch_job_on_ray(launcher.hydra_context, launcher.ray_cfg.remote, job, task, state)] = number
    returns, waiting = [JobReturn(status=JobStatus.FAILED) for _ in jobs], list(jobs)
    while waiting:
        (ended,), waiting = ray.wait(waiting)
        try:
            returned = returns[jobs[ended]] = ray.get(ended)
        except ray.exceptions.RayError as error:
            returns[jobs[ended]].return_value = TwinnetError(f"its process died twice: {one_line_text(error)[:300]}")
            context.stop_after_failure()
        else:
            if returned.status is JobStatus.COMPLETED:
                returned.return_value = _take_result(returned.return_value, context)
    return returns


def _take_result(result: JobResult, context: SweepContext) -> JobResult:
    """Return the result without the directory if it lies on another disk; write it to the sweep's folder."""
    here = cache.find(result.key, context.root)
    if not here or here.metrics != result.metrics:
        result = replace(result, directory="")
    return write_result(result, context.results) if result.key and result.status is not Status.busy else result


def _auth_hint(address: str | None) -> str:
    """Return the most frequent cause of a refused connection, which Ray's own message does not name."""
    if not address or os.environ.get("RAY_AUTH_MODE"):
        return ""
    return "; a cluster with a token expects RAY_AUTH_MODE=token here, and its ~/.ray/auth_token"


def _local_ray_address() -> str:
    """Return the address of the cluster that this machine belongs to."""
    from ray._private.services import find_gcs_addresses  # as address=auto does; Ray has no public function for it

    found = sorted(find_gcs_addresses())
    if not found:
        raise ConfigError(
            "hydra.launcher.ray.init.address=auto: expected a Ray cluster on this machine; found none; "
            "start one (ray start --head), or leave the address out"
        )
    return found[0]


def _check_reachable(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=RAY_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"hydra.launcher.ray.init.address={address}: expected a Ray cluster there; it does not answer ({error}); "
            "start one (ray start --head), or use address=auto or no address"
        ) from error
