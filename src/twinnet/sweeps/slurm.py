"""A sweep as an array of SLURM jobs: submitit submits them, and squeue says what became of each."""

import contextlib
import io
import logging
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from twinnet.core.errors import ConfigError, TwinnetError
from twinnet.sweeps.job import SweepContext

if TYPE_CHECKING:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
    from submitit import Job

log = logging.getLogger(__name__)

LAUNCHER = "hydra/launcher=submitit_slurm"
MAX_ARRAY = 1000  # jobs in one array: the MaxArraySize of a cluster that sets none
POLL_SECONDS = 1.0  # between two looks for results
SQUEUE_SECONDS = 30.0  # at most between two calls of squeue; the first ones follow each other sooner
RESULT_SECONDS = 15.0  # for a shared folder to show the result of a job that has ended
TIME_LIMIT = (
    "its time limit ended; use a larger hydra.launcher.timeout_min, or hydra.launcher.max_num_timeout to resume it"
)
ENDED = {  # state -> why the job has no result; "": its process died, and it is tried once more
    "COMPLETED": "",
    "FAILED": "",
    "NODE_FAIL": "",
    "BOOT_FAIL": "",
    "PREEMPTED": "",
    "CANCELLED": "it was cancelled (scancel)",
    "TIMEOUT": TIME_LIMIT,
    "DEADLINE": TIME_LIMIT,
    "OUT_OF_MEMORY": "it needs more memory; use a larger hydra.launcher.mem_gb",
}
WAIT_REASONS = (
    "None",
    "Priority",
    "Resources",
    "JobArrayTaskLimit",
    "BeginTime",
    "Dependency",
    "Cleaning",
)  # to wait for
FATAL_REASONS = re.compile("Partition(Config|TimeLimit|NodeLimit)|BadConstraints|Invalid|PerJob")


def check(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if no SLURM controller answers here, or if signal_delay_s is not shorter than the time limit.

    `settings` is the composed hydra.launcher.
    """
    if (limit := 60 * settings["timeout_min"]) <= (delay := settings["signal_delay_s"]):
        raise ConfigError(
            f"hydra.launcher.timeout_min={settings['timeout_min']}: expected more than signal_delay_s, {delay} s "
            f"before its end; received {limit} s; use a larger one, or a smaller hydra.launcher.signal_delay_s"
        )
    if shutil.which("srun") is None:
        raise ConfigError(
            f"{LAUNCHER}: expected SLURM's programs (sbatch, srun) on this machine; found none; "
            "start the sweep on a login node, or use hydra/launcher=joblib"
        )
    answer = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    if " is UP" not in answer.stdout:
        reason = " ".join(f"{answer.stdout} {answer.stderr}".split())
        raise ConfigError(f"{LAUNCHER}: expected a SLURM controller that answers; received {reason}")


def launch(launcher: "SlurmLauncher", overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Run each job, once more if its process died, and return what became of it.

    Raises TwinnetError, and cancels the array, if SLURM refuses the jobs or can never start them.
    """
    context: SweepContext = launcher.task_function.keywords["context"]
    launcher.task_function = partial(run_on_node, launcher.task_function)
    calls = {
        number: (list(words), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
        for number, words in enumerate(overrides, first)
    }
    returns = _run_array(launcher, calls, context)
    if died := [number for number, returned in returns.items() if returned is None]:
        log.warning("SLURM: %d jobs ended without a result; they are tried once more", len(died))
        launcher.params["submitit_folder"] += "-again"  # a controller that has lost its queue counts from 1 again
        returns |= _run_array(launcher, {number: calls[number] for number in died}, context)
    return [returns[number] or _failed("the process that trained it died twice") for number in calls]


def run_on_node(task: Callable[[DictConfig], Any], composed: DictConfig) -> Any:
    """Run the task of a job: `scancel` and preemption interrupt it, and at its time limit it fails and says so."""
    import submitit  # imported already

    user_signal = signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
    requeue: Any = signal.getsignal(user_signal)

    def end_in_time(number: int, frame: FrameType | None) -> None:
        try:
            requeue(number, frame)
        except submitit.core.utils.UncompletedJobError:
            raise TwinnetError(TIME_LIMIT) from None

    signal.signal(user_signal, end_in_time)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return task(composed)


def _run_array(
    launcher: "SlurmLauncher", calls: Mapping[int, tuple[Any, ...]], context: SweepContext
) -> dict[int, JobReturn | None]:
    """Return what each job returned, or why it did not; None if its process died."""
    jobs = dict(zip(calls, _submit(launcher, list(calls.values())), strict=True))
    identity = next(iter(jobs.values())).job_id.partition("_")[0]  # of the array
    returns: dict[int, JobReturn | None] = {}
    ended: dict[int, float] = {}  # when squeue first said so
    start = ask_at = time.monotonic()
    hopeless: set[str] = set()
    try:
        while True:
            now = time.monotonic()
            for number in [number for number, job in jobs.items() if job.paths.result_pickle.exists()]:
                returns[number] = _returned(jobs.pop(number))
            if not jobs:
                return returns
            if now >= ask_at:
                ask_at = now + min(SQUEUE_SECONDS, (now - start) / 10)
                states = _states(identity, [job.job_id for job in jobs.values()])
                for number, job in list(jobs.items()):
                    state, _ = states.get(job.job_id, ("UNKNOWN", ""))
                    if state not in ENDED:
                        ended.pop(number, None)
                    elif ENDED[state] or now - ended.setdefault(number, now) > RESULT_SECONDS:
                        returns[number] = _failed(ENDED[state]) if ENDED[state] else None
                        del jobs[number]
                        if ENDED[state]:
                            context.stop_after_failure()
                hopeless = _check_waiting(hopeless, states.values())
            time.sleep(POLL_SECONDS)
    except BaseException:
        subprocess.run(["scancel", identity], capture_output=True)
        raise


def _submit(launcher: "SlurmLauncher", calls: Sequence[tuple[Any, ...]]) -> "list[Job[JobReturn]]":
    import submitit  # 0.3 s, and an extra
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    settings = {key: value for key, value in launcher.params.items() if value is not None}
    folder, timeouts = settings.pop("submitit_folder"), settings.pop("max_num_timeout")
    general = BaseQueueConf.__dataclass_fields__
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
            executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=timeouts)
            executor.update_parameters(**{key if key in general else f"slurm_{key}": settings[key] for key in settings})
            return executor.map_array(launcher, *zip(*calls, strict=True))
    except submitit.core.utils.FailedJobError as error:
        reason = " ".join(str(error).replace("sbatch: error: ", "").split())
        raise TwinnetError(f"{LAUNCHER}: sbatch refuses the jobs: {reason}") from error


def _states(identity: str, jobs: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return job -> its state and why it waits; nothing if the controller does not answer.

    `identity` is that of the array. SLURM soon forgets a job that has ended.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={identity}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode and "Invalid job id" not in answer.stderr:
        _warn(f"its controller does not answer, the jobs go on: {answer.stderr}")
        return {}
    rows = [line.split("|", 2) for line in answer.stdout.splitlines()]
    return dict.fromkeys(jobs, ("COMPLETED", "")) | {job: (state, reason) for job, state, reason in rows}


def _check_waiting(known: set[str], states: Iterable[tuple[str, str]]) -> set[str]:
    """Return the reasons for which jobs can never start. Raises TwinnetError for one that is `known` already."""
    reasons = {reason for state, reason in states if state == "PENDING" and reason not in WAIT_REASONS}
    hopeless = {reason for reason in reasons if FATAL_REASONS.search(reason)}
    for reason in sorted(hopeless & known):
        raise TwinnetError(
            f"{LAUNCHER}: expected jobs that a node of the partition can run; SLURM never starts these: {reason}; "
            "see hydra.launcher.partition, cpus_per_task, mem_gb, gres and timeout_min"
        )
    for reason in sorted(reasons - hopeless):
        _warn(f"jobs wait: {reason}")
    return hopeless


@cache
def _warn(line: str) -> None:
    """Log a line, the first time."""
    log.warning("SLURM: %s", " ".join(line.split()))


def _returned(job: "Job[JobReturn]") -> JobReturn:
    outcome, value = job._get_outcome_and_result()  # job.result() puts the reason into a page
    return value if outcome == "success" else _failed(f"{value.strip().splitlines()[-1]}; {job.paths.stderr}")


def _failed(reason: str) -> JobReturn:
    return JobReturn(status=JobStatus.FAILED, _return_value=TwinnetError(reason))
