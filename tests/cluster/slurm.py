"""A SLURM cluster on this machine: munged, slurmctld, and nodes with a host name and a process table of their own."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.sweeps.commands import await_true

NODES = ("n1", "n2")
CPUS = 2  # of each node, whatever this machine has
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmctldTimeout=5
SlurmdTimeout=60
MessageTimeout=20
KillWait=2
ReturnToService=0
PartitionName=short Nodes=ALL Default=YES MaxTime=60
"""
SECONDS = 30.0  # for a daemon to start, a node to be idle


class Cluster:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.daemons = folder, stack, dict[str, subprocess.Popen[bytes]]()
        self.configuration = folder / "slurm.conf"
        controller, *ports = _free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory=4000\n"
            for name, port in zip(NODES, ports, strict=True)
        ]
        text = CONFIGURATION.format(host=socket.gethostname(), port=controller, folder=folder)
        head, partition = text.rstrip().rsplit("\n", 1)
        self.configuration.write_text("\n".join([head, *nodes, partition, ""]))
        self.start_munge()
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        for name in NODES:
            self.await_state(name, "IDLE")

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.configuration)}

    def start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key": key, **{name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}}
        options = [f"--{name}{'' if name == 'socket' else '-file'}={file}" for name, file in files.items()]
        self._start("munge", "munged", "--foreground", "--force", *options)
        await_true(lambda: files["socket"].exists(), "munged", SECONDS)

    def start_controller(self) -> None:
        (self.folder / "state").mkdir(exist_ok=True)
        self._start("controller", "slurmctld", "-D")
        await_true(lambda: "is UP" in self.run("scontrol", "ping", check=False), "slurmctld", SECONDS)

    def start_node(self, name: str) -> None:
        """Start slurmd on a host of this name, with a process table of its own."""
        (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        spaces = ["--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._start(name, "unshare", *spaces, "bash", "-c", f"hostname {name}; slurmd -D -N {name}; true")

    def kill(self, name: str) -> None:
        """Kill a daemon; a node with everything that runs on it, as a power cut."""
        self.daemons[name].kill()
        self.daemons[name].wait()

    def run(self, *command: str, check: bool = True) -> str:
        """Return what a command of SLURM prints."""
        ran = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0 or not check, f"{command}: {ran.stderr}"
        return ran.stdout

    def update_node(self, name: str, state: str) -> None:
        """Tell the controller that a node is down, or that it may be used again (resume)."""
        self.run("scontrol", "update", f"nodename={name}", f"state={state}", "reason=tests")

    def await_state(self, name: str, state: str) -> None:
        """Wait for a state, as IDLE; that of `sinfo` can be an old one for as long as nothing changes."""
        shown = partial(self.run, "scontrol", "show", "node", name, check=False)
        await_true(lambda: f"State={state} " in shown(), f"{name} {state}", SECONDS)

    def jobs(self, states: str = "PENDING,RUNNING") -> list[str]:
        """Return the ids of the jobs in the queue, as 8_3."""
        return self.run("squeue", "-h", "--array", f"--states={states}", "-o", "%i").split()

    def await_saved(self) -> None:
        """Wait until the controller has written what it knows now, which it does every five seconds."""
        now, saved = time.time(), self.folder / "state" / "job_state"
        await_true(lambda: saved.exists() and saved.stat().st_mtime > now, "the state of the jobs", SECONDS)

    def clear(self) -> None:
        """Cancel what is left of a test, and wait until both nodes are idle."""
        self.run("scancel", "--user=root")
        await_true(lambda: not self.jobs("PENDING,RUNNING,COMPLETING"), "an empty queue", SECONDS)
        for name in NODES:  # a controller that was started again does not know them at once
            self.await_state(name, "IDLE")

    def _start(self, name: str, *command: str) -> None:
        environment = os.environ | self.environment
        environment["PATH"] += f"{os.pathsep}/usr/sbin"
        with (self.folder / f"{name}.out").open("ab") as output:
            self.daemons[name] = daemon = subprocess.Popen(  # ends with the tests, even if they are killed
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.stack.callback(daemon.wait)
        self.stack.callback(daemon.kill)


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Cluster]:
    """Yield a cluster of two idle nodes; every daemon and job ends with it. Skips the tests without root."""
    if os.geteuid() or subprocess.run(["unshare", "--uts", "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("needs root, and a kernel that allows namespaces")
    with ExitStack() as stack:
        yield Cluster(folder, stack)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
