"""Who reads, who writes, and who learns a secret: a server for several people, and all that a training leaves."""

import http.client
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from tests.cluster.checkout import LATER, TRAIN, Checkout
from tests.postgres import PASSWORD as DATABASE_PASSWORD
from tests.postgres import cluster, programs
from tests.servers import serving
from twinnet.training.run import Run

PASSWORDS = {"admin": "pass-word-of-admin", "member": "pass-word-of-member", "reader": "pass-word-of-reader"}
RAY_TOKEN = "0123456789abcdef" * 4
AWS = {"AWS_SECRET_ACCESS_KEY": "secret/access+key-of-somebody", "AWS_SESSION_TOKEN": "session-token-of-somebody"}


@dataclass(frozen=True)
class Server:
    address: str
    folder: Path
    database: str

    def as_user(self, user: str, password: str = "") -> dict[str, str]:
        """Return the variables of a client."""
        password = password or PASSWORDS[user]
        names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        return dict(zip(names, (self.address, user, password), strict=True))

    def ask(self, method: str, path: str, user: str = "", body: str = "", **headers: str) -> tuple[int, str]:
        """Send a request with the path as it is written, and return status and body of the answer."""
        if user:
            headers["Authorization"] = f"Basic {b64encode(f'{user}:{PASSWORDS.get(user)}'.encode()).decode()}"
        if body:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`make server` on every address of this machine, on PostgreSQL, with a member and a reader."""
    from mlflow.server import get_app_client

    folder = tmp_path_factory.mktemp("server")
    with cluster() as database:
        environment = {
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_HOST": "0.0.0.0",
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        }
        with serving(folder, ["twinnet.tracking", "server"], environment=environment) as address:
            running = Server(address, folder, database)
            with pytest.MonkeyPatch.context() as patched:
                for name, value in running.as_user("admin").items():
                    patched.setenv(name, value)
                users = get_app_client("basic-auth", tracking_uri=address)
                for name in ("member", "reader"):
                    users.create_user(name, PASSWORDS[name])
                users.grant_user_permission("member", "experiment", "*", "EDIT")
            yield running


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.make(tmp_path)


def test_requests_that_a_server_refuses(server: Server, tried: Callable[..., None]) -> None:
    """A server that other machines reach: requests without a password, of foreign pages, for files of the server"""
    experiments, create = "/api/2.0/mlflow/experiments/search?max_results=9", "/api/2.0/mlflow/experiments/create"
    files = "/api/2.0/mlflow-artifacts/artifacts"
    assert server.ask("GET", experiments, "member")[0] == 200
    assert server.ask("GET", "/", "member")[1].startswith("<!doctype html>")
    for path in ("/", experiments, files, "/get-artifact?path=a&run_uuid=b", "/signup", "/graphql"):
        assert server.ask("GET", path)[0] == 401, path
        assert server.ask("GET", path, "nobody")[0] == 401, path

    foreign = "http://elsewhere.example"
    assert server.ask("GET", experiments, "admin", Host="elsewhere.example")[0] == 403  # DNS rebinding
    assert server.ask("POST", create, "admin", '{"name": "foreign"}', Origin=foreign)[0] == 403
    allowed = "Access-Control-Request-Method"
    assert server.ask("OPTIONS", create, "", "", Origin=foreign, **{allowed: "POST"})[0] == 400
    assert server.ask("POST", create, "reader", '{"name": "of the reader"}')[0] == 200  # everybody may have their own

    outside = server.folder / "outside.txt"
    outside.write_text("content")
    ways = ("../outside.txt", "..%2foutside.txt", "%2e%2e/outside.txt", "..%252foutside.txt", "a/../../outside.txt")
    for path in (*ways, str(outside), str(outside).replace("/", "%2f"), f"file://{outside}"):
        for method, body in (("GET", ""), ("PUT", "changed"), ("DELETE", "")):
            status, answer = server.ask(method, f"{files}/{path}", "admin", body)
            assert status >= 300, (method, path)  # 308: to the same path under the artifacts' folder
            assert "content" not in answer, (method, path)
        assert server.ask("GET", f"{files}?path={path}", "admin")[0] >= 400, path
    assert outside.read_text() == "content"
    tried(
        "no password, a wrong one, a foreign Host, a foreign Origin, 8 ways out of the artifacts' folder: all refused"
    )


def test_training_without_the_right_to_write(server: Server, checkout: Checkout, tried: Callable[..., None]) -> None:
    """Trainings of somebody without a password, with a wrong one, who may read only; sent by a member"""
    made = checkout.run(*TRAIN, "seed=100", "hydra.run.dir=runs/member", **server.as_user("member"))
    assert made.returncode == 0
    assert "tracked" not in made.stdout
    clients = {
        "dead": {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        "nobody": {"MLFLOW_TRACKING_URI": server.address},
        "stranger": server.as_user("member", "wrong-pass-word"),
        "reader": server.as_user("reader"),
    }
    reasons = {"dead": "does not answer", "nobody": "(401 ", "stranger": "(401 ", "reader": "(403 "}
    for seed, (name, client) in enumerate(clients.items()):
        done = checkout.run(*TRAIN, f"seed={seed}", f"hydra.run.dir=runs/{name}", **client)
        assert done.returncode == 0, "a dead store costs no training, and one that refuses neither"
        (line,) = [line for line in done.stdout.splitlines() if "the tracking store" in line]
        assert reasons[name] in line
        assert LATER in line
        assert Run.read(checkout.folder / "runs" / name).metrics["epochs"] == 30
    refused = checkout.run("pipelines.publish", **server.as_user("reader"))
    assert refused.returncode == 1
    assert refused.stdout.count("\n") == 2, "one for the run of the dead store"
    sent = checkout.run("pipelines.publish", **server.as_user("member"))
    assert sent.returncode == 0
    assert "1 of 5 runs were in" in sent.stdout
    tried("4 trainings and a `publish` were refused in one line each; a member's `publish` sent all 4")


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Ray's logs; the paths of its sockets have 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_no_log_and_no_file_holds_a_secret(
    server: Server, checkout: Checkout, ray_folder: Path, tried: Callable[..., None]
) -> None:
    """Passwords, tokens and keys of a training that fails, of a sweep over Ray, and of a search on PostgreSQL"""
    home = checkout.folder.parent / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").write_text(RAY_TOKEN)
    with closing(psycopg2.connect(server.database)) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE optuna")
    ray = {"RAY_AUTH_MODE": "token", "RAY_TMPDIR": str(ray_folder)}
    client = server.as_user("member") | AWS | ray | {"HOME": str(home)}
    client["MLFLOW_TRACKING_URI"] = server.address.replace("://", f"://member:{PASSWORDS['member']}@")
    storage = server.database.replace("/postgres", "/optuna")
    outputs = []
    for rc, command in (
        (1, (*TRAIN, "optimizer.learning_rate=1e308", "hydra.run.dir=runs/diverged")),
        (0, ("twinnet.train", "-m", *TRAIN[1:], "seed=1,2", "hydra/launcher=ray")),
        (0, ("twinnet.search", "search=nba", *TRAIN[1:], "search.trials=1", f"search.storage={storage}")),
    ):
        done = checkout.run(*command, **client)
        assert done.returncode == rc, done.stdout
        outputs.append(done.stdout)
    dump = subprocess.run([programs() / "pg_dump", server.database], capture_output=True, text=True, check=True).stdout
    assert "diverged" in dump
    folders = (checkout.folder, server.folder, ray_folder)
    files = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert {"server.log", "record.json", "overrides.yaml", "hydra.yaml", "raylet.out"} <= {path.name for path in files}
    texts = {"output": "\n".join(outputs).encode(), "database": dump.encode(), **files}
    secrets = {*AWS.values(), *PASSWORDS.values(), DATABASE_PASSWORD, RAY_TOKEN}
    found = {f"{place}: {secret}" for place, text in texts.items() for secret in secrets if secret.encode() in text}
    assert not found, "\n".join(sorted(found))
    tried(f"{len(secrets)} secrets looked for in all output, {len(files)} files and a dump of the database: none found")
