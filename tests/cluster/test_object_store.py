"""Data, runs and artifacts in an object store: moto's, behind a relay that fails as networks and disks do."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from tests.cluster.checkout import LATER, TRAIN, Checkout
from tests.cluster.object_store import BUCKET, PROGRAMS, ObjectStore, dvc, object_store
from tests.pipelines.project import make_smoke
from tests.postgres import cluster
from tests.servers import ROOT, serving
from tests.sweeps.commands import await_true
from twinnet.tracking.store import connect
from twinnet.training.run import RESULT_FILES, finished_runs

HASTY = {"AWS_MAX_ATTEMPTS": "1", "AWS_RETRY_MODE": "standard"}  # else some failures take a minute


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("moto")) as running:
        yield running


def lines_of(output: str) -> list[str]:
    return [line for line in output.splitlines() if "the tracking store" in line or "rror" in line]


# --------------------------------------------------------------------------------------------------------- DVC


def test_second_clone_pulls_all_and_trains_nothing(
    store: ObjectStore, tmp_path: Path, tried: Callable[..., None]
) -> None:
    """The suite on small settings pushed to an object store, pulled into a second clone, published there"""
    assert version("dvc") == subprocess.check_output([PROGRAMS / "dvc", "--version"], text=True).strip()
    first = make_smoke(ROOT, tmp_path / "first")
    first.run("make", "-o", ".venv/runtime", "repro", f"S={' '.join(first.overrides(tracked=True))}")
    client = store.credentials()
    for words in (("add", "-d", "store", f"s3://{BUCKET}/dvc"), ("modify", "store", "endpointurl", store.address)):
        assert dvc(first.folder, "remote", *words).returncode == 0
    first.commit()
    pushed = dvc(first.folder, "push", **client)
    assert pushed.returncode == 0, pushed.stdout
    assert dvc(first.folder, "push", **client).stdout == "Everything is up to date.\n"

    first.run("git", "clone", "-q", ".", str(tmp_path / "second"))
    second = type(first)(tmp_path / "second", "")
    pulled = dvc(second.folder, "pull", **client)
    assert pulled.returncode == 0, pulled.stdout
    names = {path.name for path in finished_runs(first.folder / "runs")}
    assert {path.name for path in finished_runs(second.folder / "runs")} == names
    second.run("python", "-m", "pipelines.publish")
    stored = list(connect(f"sqlite:///{second.folder}/mlflow.db").search(""))
    assert Counter((run.data.tags["experiment"], run.info.status) for run in stored) == {
        (n, "FINISHED"): 1 for n in names
    }
    ran = second.ran(second.run("dvc", "repro").stdout)
    assert ran <= {"params", "publish"}
    assert second.run("git", "status", "--porcelain", "dvc.lock", "params.yaml").stdout == ""
    n_objects = len(store.objects("dvc/"))
    tried(f"{n_objects} objects and {len(names)} runs in both stores, dvc.lock unchanged, nothing trained")


def test_dvc_leaves_nothing_half_done(store: ObjectStore, tmp_path: Path, tried: Callable[..., None]) -> None:
    """`dvc push` and `dvc pull`: wrong secret, full bucket, cut line, kill -9, replaced object, no bucket, no answer"""
    first, second, client = tmp_path / "first", tmp_path / "second", store.credentials() | HASTY
    first.mkdir()
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "init", "-q"], cwd=first, check=True)
    dvc(first, "init", "-q")
    (first / "data").mkdir()
    contents = {f"{number}.bin": os.urandom(300_000) for number in range(4)}
    for name, content in contents.items():
        (first / "data" / name).write_bytes(content)
    dvc(first, "add", "-q", "data")
    dvc(first, "remote", "add", "-d", "store", f"s3://{BUCKET}/dvc")
    for setting, value in (("endpointurl", store.address), ("verify", "true")):
        dvc(first, "remote", "modify", "store", setting, value)
    subprocess.run([*git, "add", "-A"], cwd=first, check=True)
    subprocess.run([*git, "commit", "-qm", "made"], cwd=first, check=True)
    subprocess.run(["git", "clone", "-q", first, second], check=True)

    def fails(folder: Path, command: str, part: str, **environment: str) -> None:
        done = dvc(folder, command, **client | environment)
        assert done.returncode != 0, done.stdout
        assert part in done.stdout
        assert "Traceback" not in done.stdout
        assert store.secret not in done.stdout
        assert not any(key.endswith(".dir") for key in store.objects()), (
            "a folder is complete in the store, or not there"
        )
        assert not list(second.glob("data/*"))

    store.check_signatures()
    fails(first, "push", "Forbidden", AWS_SECRET_ACCESS_KEY="wrong")
    assert not store.objects()
    store.full_after = 700_000
    fails(first, "push", "XMinioStorageFull")
    store.heal()
    store.cut_after = 400_000
    fails(first, "push", "failed to push data to the cloud")
    store.heal()
    store.slow = 0.5
    with killed_dvc(first, "push", client):
        await_true(lambda: len(store.objects()) > 2, "three objects")
    store.heal()
    pushed = dvc(first, "push", **client)
    assert pushed.returncode == 0, pushed.stdout
    assert len(store.objects()) == len(contents) + 1

    store.cut_after = 700_000
    done = dvc(second, "pull", **client)
    assert done.returncode != 0
    assert "failed to pull data from the cloud" in done.stdout
    assert not list(second.glob("data/*"))
    store.heal()
    store.slow = 0.5
    with killed_dvc(second, "pull", client):
        await_true(lambda: any(second.glob(".dvc/cache/files/md5/*/*")), "a file of the cache")
    store.heal()
    pulled = dvc(second, "pull", **client)
    assert pulled.returncode == 0, pulled.stdout
    assert {path.name: path.read_bytes() for path in (second / "data").iterdir()} == contents

    name = next(name for name in store.objects() if not name.endswith(".dir"))
    store.client("s3", store.key, store.secret).put_object(Bucket=BUCKET, Key=name, Body=b"replaced by somebody")
    for folder in ("data", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(second / folder)
    assert dvc(second, "pull", **client).returncode != 0
    assert not list(second.glob("data/*"))

    for setting, value, part in (
        ("url", "s3://nowhere/dvc", "NoSuchBucket"),
        ("endpointurl", "http://127.0.0.1:9", "Could not connect to the endpoint URL"),
    ):
        dvc(second, "remote", "modify", "--local", "store", setting, value)
        done = dvc(second, "push", **client)
        assert done.returncode != 0
        assert part in done.stdout
    tried("each ended with an error and not with status 0; the next push and pull completed, byte for byte")


@contextmanager
def killed_dvc(folder: Path, command: str, environment: dict[str, str]) -> Iterator[None]:
    """A command of DVC that is killed at the end."""
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [PROGRAMS / "dvc", command, "-j", "1"], cwd=folder, env=os.environ | {"PATH": path} | environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        assert process.poll() is None, "it ended before it was killed"
    finally:
        process.kill()
        process.wait()


# --------------------------------------------------------------------------------------------------- artifacts


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.make(tmp_path)


@pytest.fixture
def server(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`make server` on PostgreSQL, with artifacts in the bucket."""
    environment = store.credentials() | HASTY | {"MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/artifacts"}
    with cluster() as database:
        environment["MLFLOW_BACKEND_STORE_URI"] = database
        with serving(
            tmp_path_factory.mktemp("server"), ["twinnet.tracking", "server"], environment=environment
        ) as address:
            yield address


def test_artifacts_lie_in_the_bucket(
    store: ObjectStore, server: str, checkout: Checkout, tmp_path: Path, tried: Callable[..., None]
) -> None:
    """A server on PostgreSQL with artifacts in an object store; clients without its credentials"""
    client = {"MLFLOW_TRACKING_URI": server}
    done = checkout.run(*TRAIN, "hydra.run.dir=runs/first", **client)
    assert done.returncode == 0
    assert not lines_of(done.stdout)
    (stored,) = connect(server).search("")
    assert stored.info.status == "FINISHED"
    keys = {re.sub(r".*/artifacts/", "", key) for key in store.objects("artifacts/")}
    assert {*RESULT_FILES, "history/history.npz", "figures/learning_curves.png"} <= keys
    for signed in ("true", "false"):
        store.signed.clear()
        words = ("artifacts", "download", "-r", stored.info.run_id, "-d", str(tmp_path / signed))
        fetched = checkout.run("mlflow", *words, MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=signed, **client)
        assert fetched.returncode == 0, fetched.stdout
        assert bool(store.signed) == (signed == "true")
        for name in RESULT_FILES:
            assert (tmp_path / signed / name).read_bytes() == (checkout.folder / "runs/first" / name).read_bytes()
    tried(f"{len(keys)} objects; all read back, at addresses that the server signs and through it")


def test_run_is_finished_with_its_artifacts_or_not_at_all(
    store: ObjectStore, server: str, checkout: Checkout, tried: Callable[..., None]
) -> None:
    """A bucket that fills, an upload cut half-way, and kill -9 of the process that sends a run; then `publish`"""
    client = {"MLFLOW_TRACKING_URI": server}

    def is_whole() -> None:
        for found in connect(server).search("attributes.status = 'FINISHED'"):
            files = {file.path for file in connect(server).client.list_artifacts(found.info.run_id)}
            assert {*RESULT_FILES, "history", "figures"} <= files

    for seed, (fault, n_bytes) in enumerate((("full_after", 20_000), ("cut_after", 3_000))):
        setattr(store, fault, n_bytes)
        done = checkout.run(*TRAIN, f"seed={seed}", f"hydra.run.dir=runs/{fault}", **client)
        assert done.returncode == 0
        (line,) = lines_of(done.stdout)
        assert ("does not answer" in line) or ("answers with error 500" in line)
        assert LATER in line
        again = checkout.run("pipelines.publish", **client)
        assert again.returncode == 1
        assert len(lines_of(again.stdout)) == 1
        store.heal()
        is_whole()
        assert checkout.run("pipelines.publish", **client).returncode == 0
    n_before, store.slow = len(store.objects()), 1.0
    words = [sys.executable, "-m", *TRAIN, "seed=2", "hydra.run.dir=runs/killed"]
    silence = subprocess.DEVNULL
    training = subprocess.Popen(words, cwd=checkout.folder, env=os.environ | client, stdout=silence, stderr=silence)
    await_true(lambda: len(store.objects()) > n_before + 1, "two more objects")
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if "twinnet.tracking.follow" in (process.info["cmdline"] or []) and process.info["cwd"] == str(checkout.folder):
            process.kill()
    training.kill()
    training.wait()
    is_whole()
    store.heal()
    sent = checkout.run("pipelines.publish", **client)
    assert sent.returncode == 0, sent.stdout
    is_whole()
    stored = list(connect(server).search(""))
    finished = Counter(found.data.tags["twinnet.result"] for found in stored if found.info.status == "FINISHED")
    assert set(finished.values()) == {1}
    assert len(finished) == 3
    tried("3 trainings went on, their runs were not finished in the store before a `publish` that had them all")


def test_server_without_its_bucket_does_not_start(
    store: ObjectStore, migrated: Path, checkout: Checkout, tried: Callable[..., None]
) -> None:
    """A server with a wrong secret, a bucket that does not exist, an address that refuses or never answers"""
    store.check_signatures()
    right = store.credentials() | {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{migrated}",
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/artifacts",
    }
    for part, wrong in (
        ("SignatureDoesNotMatch", {"AWS_SECRET_ACCESS_KEY": "a-wrong-secret"}),
        ("NoSuchBucket", {"MLFLOW_ARTIFACTS_DESTINATION": "s3://nowhere/artifacts"}),
        ("Could not connect", {"MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9"}),
        ("Read timeout", {}),
    ):
        store.hangs = not wrong
        done = checkout.run("twinnet.tracking", "server", **right | wrong)
        assert done.returncode == 1
        assert done.stdout.startswith("error: MLFLOW_ARTIFACTS_DESTINATION=s3://")
        assert done.stdout.count("\n") == 1
        assert part in done.stdout
        assert store.secret not in done.stdout
    tried("one line each, exit status 1")
