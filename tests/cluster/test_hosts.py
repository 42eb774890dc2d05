"""Sweeps, searches and tracking on hosts that share neither processes nor a disk, some lost or cut off meanwhile."""

import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import optuna
import pytest
from mlflow.entities import Run
from optuna.trial import TrialState
from sqlalchemy import create_engine, text

from tests.cluster.checkout import Checkout
from tests.cluster.hosts import Command, Host, Network, network
from tests.postgres import PASSWORD, cluster
from tests.sweeps.commands import await_true
from twinnet.core.schema import Tracking
from twinnet.tracking import sweeps
from twinnet.tracking.store import Store, client_environment, connect, with_driver

pytestmark = pytest.mark.timeout(900)
Tried = Callable[..., None]
RAY = str(Path(sys.executable).with_name("ray"))
ADMIN = "a-pass-word-of-mlflow"
LONG = "epochs=30000"  # some seconds, so that a host can be lost in the middle of a job
HEALTH = {"initial_delay_ms": "1000", "period_ms": "1000", "timeout_ms": "1000", "failure_threshold": "3"}
RAY_SETTINGS = {"RAY_AUTH_MODE": "token"} | {f"RAY_health_check_{name}": value for name, value in HEALTH.items()}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("hosts") / "disks") as made:
        yield made


@pytest.fixture(scope="module")
def database(net: Network) -> Iterator[str]:
    """The address of a PostgreSQL database on a host of its own."""
    host = net.host("database")
    with cluster(host.address, host.enter()) as address:
        yield address


@pytest.fixture(scope="module")
def server(net: Network, database: str) -> Host:
    """The host of `make server`."""
    host = net.host("mlflow")
    Checkout.make(host.project)
    settings = {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_HOST": "0.0.0.0",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{host.address}:5000",
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
    }
    process = host.start("python", "-m", "twinnet.tracking", "server", **settings)
    await_true(lambda: answers(f"http://{host.address}:5000/health", process), "the server answers")
    return host


@pytest.fixture(scope="module")
def tracked(server: Host) -> dict[str, str]:
    """What a user sets on each host, for the server."""
    return {
        "MLFLOW_TRACKING_URI": f"http://{server.address}:5000",
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": ADMIN,
    }


@pytest.fixture
def store(tracked: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in (tracked | client_environment(Tracking(timeout_seconds=20))).items():
        monkeypatch.setenv(name, value)
    return connect(tracked["MLFLOW_TRACKING_URI"])


@pytest.fixture(scope="module")
def nodes(net: Network, tracked: dict[str, str]) -> list[Host]:
    """A Ray cluster with a token: a head, on which sweeps start, and two more hosts, each with one CPU."""
    head, *others = made = [net.host(name) for name in ("head", "node1", "node2")]
    head.run(RAY, "get-auth-token", "--generate", **RAY_SETTINGS)
    for node in others:
        shutil.copytree(head.disk / "home" / ".ray", node.disk / "home" / ".ray")
    for node in made:
        Checkout.make(node.project)
    start_ray(tracked, head, "--head", "--port=6379", "--include-dashboard=false").finish()
    started = [start_ray(tracked, node, f"--address={head.address}:6379") for node in others]
    for command in started:
        command.finish()
    return made


def start_ray(tracked: dict[str, str], node: Host, *words: str) -> Command:
    return node.start(
        RAY, "start", *words, "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats",
        **RAY_SETTINGS, **tracked,
    )  # fmt: skip


def answers(address: str, process: Command) -> bool:
    assert process.process.poll() is None, process.text
    with suppress(OSError), urlopen(address, timeout=5):
        return True
    return False


def train(host: Host, *words: str, **environment: str) -> Command:
    small = ("experiment=nba_scratch", "engine=scratch_numpy", "tracking.live_seconds=0.5")
    return host.start("python", "-m", "twinnet.train", *words, *small, **environment)


def sweep_on_ray(head: Host, tracked: dict[str, str], seeds: str, *words: str) -> Command:
    ray = ("hydra/launcher=ray", "hydra.launcher.ray.init.address=auto")
    return train(head, "-m", *ray, f"seed=range({seeds})", *words, **tracked, RAY_AUTH_MODE="token")


def host_of(run: Run) -> str:
    return str(run.data.tags["twinnet.process"].partition(" ")[0])


def children(store: Store, seeds: range) -> list[Run]:
    """The runs of these jobs, whichever host trained them."""
    jobs = [run for run in store.search("") if sweeps.KEY in run.data.tags]
    return [run for run in jobs if int(run.data.params.get("seed", -1)) in seeds]


def await_finished(store: Store, seeds: range) -> list[Run]:
    """Wait for what followers still send; return the runs of these jobs, of which each is finished once."""
    await_true(lambda: finished_seeds(children(store, seeds)) == [*seeds], "each job has one finished run")
    return children(store, seeds)


def running_on(store: Store, host: Host) -> list[str]:
    """The ids of the runs that train there, as the store has it; a sweep is none."""
    found = store.search("attributes.status = 'RUNNING'")
    jobs = [run for run in found if sweeps.KIND not in run.data.tags or sweeps.KEY in run.data.tags]
    return [run.info.run_id for run in jobs if host_of(run) == host.name]


def cut_off_in_training(store: Store, host: Host, has_sent: bool = True) -> list[str]:
    """Cut a host off while it trains a run that the store has; it `has_sent` all that has ended. Return the id."""
    while True:
        await_true(lambda: running_on(store, host), f"{host.name} trains")
        host.link("down")
        lives = [file.parent for file in host.project.glob("build/live/*/record.json")]
        trains = [not (live / "end.json").exists() for live in lives]
        if (all(trains) if has_sent else any(trains)) and lives and (found := running_on(store, host)):
            return found
        host.link("up")
        time.sleep(2)  # to send what has ended


def finished_seeds(found: list[Run]) -> list[int]:
    return sorted(int(run.data.params["seed"]) for run in found if run.info.status == "FINISHED")


def test_ray_sweep_on_three_hosts(nodes: list[Host], tracked: dict[str, str], store: Store, tried: Tried) -> None:
    """Ray, three hosts without a shared folder, MLflow on PostgreSQL on two others"""
    output = sweep_on_ray(nodes[0], tracked, "0,12", "epochs=3000").finish()
    assert "12 of 12 jobs are finished (0 were before)" in output
    assert "not drawn" not in output
    found = await_finished(store, range(12))
    assert len(found) == 12
    assert {host_of(run) for run in found} == {"head", "node1", "node2"}
    for run in found:
        assert "loss" in Path(store.client.download_artifacts(run.info.run_id, "metrics.json")).read_text("utf-8")
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in found}
    assert store.client.get_run(parent).info.status == "FINISHED"
    again = sweep_on_ray(nodes[0], tracked, "0,12", "epochs=3000").finish()
    assert "12 of 12 jobs are finished (12 were before)" in again
    assert len(children(store, range(12))) == 12
    tried("12 jobs, each host trained some; artifacts read back through the server; the same command: nothing trained")


def test_ray_sweep_with_a_node_cut_off(nodes: list[Host], tracked: dict[str, str], store: Store, tried: Tried) -> None:
    """Ray, the link of one host is down and comes back"""
    head, _, node = nodes
    sweep, seeds = sweep_on_ray(head, tracked, "100,112", LONG), range(100, 112)
    sweep.await_text(r"\[ 2/12\]")
    cut_off_in_training(store, node)
    time.sleep(60)
    node.link("up")
    assert "12 of 12 jobs are finished" in sweep.finish()
    restart_ray(node, head, tracked)
    node.run("python", "-m", "pipelines.publish", **tracked)
    found = await_finished(store, seeds)
    assert {run.info.status for run in found} <= {"FINISHED", "KILLED"}
    tried("12 jobs; after two of them one of three hosts is cut off for a minute, and taken for lost after 4 s")


def restart_ray(node: Host, head: Host, tracked: dict[str, str]) -> None:
    node.run(RAY, "stop", "--force")
    start_ray(tracked, node, f"--address={head.address}:6379").finish()


def test_ray_sweep_with_a_lost_node(nodes: list[Host], tracked: dict[str, str], store: Store, tried: Tried) -> None:
    """Ray, one host loses its power"""
    head, _, node = nodes
    sweep, seeds = sweep_on_ray(head, tracked, "200,212", LONG), range(200, 212)
    sweep.await_text(r"\[ 4/12\]")
    lost = cut_off_in_training(store, node)
    node.kill()
    assert "12 of 12 jobs are finished" in sweep.finish()
    found = await_finished(store, seeds)
    assert {*lost} <= {run.info.run_id for run in found if run.info.status == "KILLED"}
    assert {run.info.status for run in found} == {"FINISHED", "KILLED"}
    tried("12 jobs; one of three hosts is killed after the fourth: 12 finished, the lost run KILLED, none RUNNING")


def test_training_cut_off_from_its_server(
    net: Network, server: Host, tracked: dict[str, str], store: Store, tried: Tried
) -> None:
    """A training, the link of the MLflow server is down and comes back"""
    host = net.host("trainer")
    Checkout.make(host.project)
    training = train(host, LONG, "seed=300", **tracked)
    await_true(lambda: running_on(store, host), "the run is in the store")
    (run_id,) = running_on(store, host)
    with server.cut_off():
        output = training.finish()
    assert re.search("the training goes on without it|not tracked to its end", output)
    await_true(lambda: store.client.get_run(run_id), "the server answers again")
    host.run("python", "-m", "pipelines.publish", **tracked)
    (run,) = [run for run in store.search("") if host_of(run) == host.name]
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    steps = [point.step for point in store.client.get_metric_history(run_id, "valid/loss")]
    assert max(steps) == 30000
    assert len(steps) == len({*steps})
    assert "loss" in Path(store.client.download_artifacts(run_id, "metrics.json")).read_text("utf-8")
    tried("cut off in the middle and until its end: it ends as ever, `pipelines.publish` sends the rest")


def test_search_of_two_hosts(
    net: Network, database: str, tracked: dict[str, str], store: Store, tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search, two hosts that share the database alone, one loses its power and starts again"""
    with create_engine(with_driver(database), isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("CREATE DATABASE optuna"))
    storage = f"{database.replace(f':{PASSWORD}', '').rpartition('/')[0]}/optuna"
    server, port = storage.rpartition("@")[2].partition("/")[0].split(":")
    hosts = [net.host("search1"), net.host("search2")]
    for host in hosts:
        Checkout.make(host.project)
        passwords = host.disk / "home" / ".pgpass"
        passwords.write_text(f"{server}:{port}:*:tester:{PASSWORD}\n", "utf-8")
        passwords.chmod(0o600)

    def search(host: Host) -> Command:
        words = ("search=nba", "search.trials=14", f"search.storage={storage}", "engine=scratch_numpy", "epochs=8000")
        return host.start("python", "-m", "twinnet.search", *words, **tracked)

    first = search(hosts[0])
    first.await_text("trials have ended")
    second = search(hosts[1])
    second.await_text(r"\[\d+/14\]")
    cut_off_in_training(store, hosts[1], has_sent=False)
    hosts[1].kill()
    hosts[1].boot()
    second = search(hosts[1])
    outputs = [first.finish(), second.finish()]
    assert all("\nbest valid/loss: " in output for output in outputs)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    trials = optuna.load_study(study_name="nba", storage=with_driver(storage)).trials
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    died = [trial for trial in trials if trial.state is TrialState.FAIL]
    assert len(ended) in (14, 15)
    assert len({str(sorted(trial.params.items())) for trial in ended}) == len(ended)
    assert len(died) == 1
    assert died[0].params in [trial.params for trial in ended]
    await_true(lambda: not any(running_on(store, host) for host in hosts), "no run is left RUNNING")
    tried("14 trials; killed in a trial, which is trained again; all trials different, none left RUNNING in MLflow")


def test_hosts_of_one_name_and_one_process_number(
    net: Network, tracked: dict[str, str], store: Store, tried: Tried
) -> None:
    """Two hosts with the same host name and process number, one loses its power"""
    hosts = [net.host(disk, "same-name") for disk in ("twin1", "twin2")]
    trainings = []
    for host in hosts:
        Checkout.make(host.project)
        host.run("bash", "-c", "echo 500 > /proc/sys/kernel/ns_last_pid")
        trainings.append(train(host, "epochs=1000000", **tracked))
    await_true(lambda: len(running_on(store, hosts[0])) == 2, "both train")
    names = {run.data.tags["twinnet.process"] for run in store.search("") if host_of(run) == "same-name"}
    assert [name.split()[1] for name in names] == ["501", "501"]

    def noted() -> list[str]:
        states = [json.loads(file.read_text("utf-8")) for file in hosts[0].project.glob("build/live/*/state.json")]
        return [state["run_id"] for state in states if "run_id" in state]

    await_true(noted, "the follower notes the run")
    (lost,) = noted()
    hosts[0].kill()
    train(hosts[1], "epochs=10", "seed=401", **tracked).finish()
    assert len(running_on(store, hosts[0])) == 2  # nobody there knows of the other one
    hosts[0].boot()
    train(hosts[0], "epochs=10", "seed=402", **tracked).finish()
    (running,) = running_on(store, hosts[0])
    assert running != lost
    assert store.client.get_run(lost).info.status == "KILLED"
    trainings[1].kill()
    tried("the run of the host that lives stays RUNNING; the other one's is KILLED by its own next training")


def test_hosts_that_share_a_checkout(
    net: Network, tracked: dict[str, str], store: Store, tried: Tried, tmp_path: Path
) -> None:
    """Two hosts of one name on one mounted checkout, one loses its power"""
    Checkout.make(tmp_path)
    hosts = [net.host(disk, "same-checkout", tmp_path) for disk in ("mount1", "mount2")]

    def sweep(host: Host) -> Command:
        host.run("bash", "-c", "echo 500 > /proc/sys/kernel/ns_last_pid")
        words = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "seed=range(500,508)", "epochs=20000")
        return train(host, *words, **tracked)

    first, second = sweep(hosts[0]), sweep(hosts[1])
    for command in (first, second):
        command.await_text(r"\[\d/8\] finished")
    hosts[1].kill()
    assert "8 of 8 jobs are finished" in first.finish()
    found = await_finished(store, range(500, 508))
    statuses = Counter(run.info.status for run in found)
    assert statuses["RUNNING"] == 0
    assert statuses["KILLED"] <= 1
    tried("the same sweep of 8 jobs on both: each job once; what the dead host trained is trained by the other one")
