"""The facts of a run that starts now: its configuration, data, code, versions and what DVC calls it."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from twinnet.core import config, paths
from twinnet.core import provenance as raw_data
from twinnet.core.errors import DataError
from twinnet.core.network import Network, build_network
from twinnet.core.schema import Experiment
from twinnet.core.splits import Splits
from twinnet.training.run import RunInfo, now


def collect(
    experiment: Experiment,
    splits: Splits,
    network: Network,
    device: str,
    *,
    root: Path | None = None,
    overrides: Sequence[str] = (),
) -> RunInfo:
    """The facts of a run that starts now in the checkout `root`."""
    samples = {
        "train": len(splits.X_train),
        "valid": len(splits.X_valid),
        "test": 0 if splits.X_test is None else len(splits.X_test),
    }
    source = {"source": splits.source, "digest": splits.digest, "samples": samples}
    return RunInfo(
        config=config.plain(experiment),
        started=now(),
        parameters=network.parameters(),
        input_shape=list(network.input_shape),
        units=network.shapes()[-1][0],
        example=splits.X_valid[:1].tolist(),
        device=device,
        data=source | provenance(experiment, root),
        code=code(root),
        versions=versions(experiment),
        dvc=dvc(experiment, root),
        command=command(),
        overrides=list(overrides),
    )


def provenance(experiment: Experiment, root: Path | None) -> dict[str, Any]:
    """The processed file, and where its raw data came from, as far as data/raw/ tells."""
    told: dict[str, Any] = {"file": str(paths.PROCESSED / experiment.data.file)}
    try:
        raw = raw_data.read(experiment.data.name, root or Path())
    except DataError:
        return told
    addresses = sorted({file.address for file in raw.files if file.address})
    return told | {"addresses": addresses, "licence": raw.licence, "note": raw.note}


def code(root: Path | None) -> dict[str, Any]:
    """The git commit of the checkout, and whether its files differ from it (dvc.lock, which runs write, apart)."""

    def git(*arguments: str) -> str:
        ran = subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env=_git_environment(),
        )
        return ran.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "dirty": bool(changed)}


def _git_environment() -> dict[str, str]:
    """Ours without the variables that point git at another repository (set inside hooks), and without its lock."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"GIT_OPTIONAL_LOCKS": "0"}


def versions(experiment: Experiment) -> dict[str, str]:
    """Versions of Python, of this library and of what the experiment's engine computes with."""
    engine = config.plain(experiment)["engine"]
    used = ["twinnet", "numpy"]
    if engine["kind"] == "keras":
        used.append("keras")
    library = engine.get("array") or engine.get("backend")
    used += {"tensorflow": ["tensorflow", "tensorflow-cpu"], "jax": ["jax"]}.get(str(library), [])
    found = {"python": platform.python_version()}
    for name in used:
        try:
            found[name.removesuffix("-cpu")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def dvc(experiment: Experiment, root: Path | None) -> dict[str, str]:
    """What DVC calls this run: its stage and experiment, and the hash of the data in dvc.lock."""
    told = {"stage": os.environ.get("DVC_STAGE", ""), "exp": os.environ.get("DVC_EXP_NAME", "")}
    wanted = str(paths.PROCESSED / experiment.data.file)
    try:
        lock = ((root or Path()) / "dvc.lock").read_text()
        stages = yaml.load(lock, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"].values()
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        stages = []
    for stage in stages:
        for out in stage.get("outs", []):
            if out.get("path") == wanted:
                told["data"] = f"{out.get('hash', 'md5')}:{out.get(out.get('hash', 'md5'), '')}"
    return {key: value for key, value in told.items() if value}


def command() -> str:
    """How this process was started, without the folders of this machine."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    started = f"-m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0] or "-").name
    return " ".join(["python", started, *sys.argv[1:]])


def reconstruct(directory: Path, metrics: Mapping[str, Any]) -> RunInfo:
    """The facts of a run that left no record.json, as far as its other files tell them."""
    experiment = config.experiment(yaml.safe_load((directory / "config.yaml").read_text()))
    network = build_network(experiment)
    ended = int((directory / "metrics.json").stat().st_mtime * 1000)
    return RunInfo(
        config=config.plain(experiment),
        started=ended - int(float(metrics.get("seconds", 0)) * 1000),
        ended=ended,
        parameters=network.parameters(),
        input_shape=list(network.input_shape),
        units=network.shapes()[-1][0],
        device=str(metrics.get("device", "")),
        data={"source": metrics.get("data_source", ""), "file": str(paths.PROCESSED / experiment.data.file)},
    )
