"""Info of a run at its start: configuration, data, code, versions and its name in DVC (record.json)."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinnet.core import config, paths, provenance
from twinnet.core.network import Network
from twinnet.core.schema import Experiment
from twinnet.core.secrets import mask_nested
from twinnet.core.splits import Splits

COMMIT = "# branch.oid "  # the line of `git status` that has it; "(initial)" if there is none yet


@dataclass(frozen=True)
class RunInfo:
    """Plain values, so that JSON keeps them as they are."""

    config: dict[str, Any]  # the resolved experiment
    started: int  # milliseconds since 1970, as MLflow counts
    parameters: int
    input_shape: list[int]
    units: int
    example: list[Any] | None = None  # one sample as the network takes it, with the samples' axis
    device: str = ""
    data: dict[str, Any] = field(default_factory=dict)  # source, digest, samples, file, addresses, licence
    code: dict[str, Any] = field(default_factory=dict)  # commit, dirty
    versions: dict[str, str] = field(default_factory=dict)
    dvc: dict[str, str] = field(default_factory=dict)  # stage, exp
    command: str = ""
    overrides: list[str] = field(default_factory=list)  # Hydra's
    warnings: list[str] = field(default_factory=list)
    ended: int | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "RunInfo":
        """Return the info that `asdict` gave. Raises ValueError, KeyError or TypeError if it is not one."""
        info = cls(**values)
        for name, kinds in _TYPES.items():
            if not isinstance(getattr(info, name), kinds):
                raise TypeError(f"{name}: expected {kinds}; received {getattr(info, name)!r}")
        _ = info.name, info.dataset, info.epochs, info.dtype, info.engine, info.config["seed"]
        return info

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def dataset(self) -> str:
        return str(self.config["data"]["name"])

    @property
    def epochs(self) -> int:
        """Epochs that are to be trained: `epochs`, capped by `limits`."""
        epochs = int(self.config["epochs"])
        return min(epochs, (self.config.get("limits") or {}).get("epochs") or epochs)

    @property
    def dtype(self) -> str:
        return str(self.config["engine"]["dtype"])

    @property
    def engine(self) -> str:
        """The engine with its library: scratch/jax, keras/tensorflow."""
        engine = self.config["engine"]
        return f"{engine['kind']}/{engine.get('array') or engine.get('backend')}"


_TYPES: dict[str, Any] = {
    "config": dict, "started": int, "parameters": int, "input_shape": list, "units": int,
    "example": list | None, "device": str, "data": dict, "code": dict, "versions": dict, "dvc": dict, "command": str,
    "overrides": list, "warnings": list, "ended": int | None,
}  # fmt: skip


def now() -> int:
    """Return the time in milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


def collect(
    experiment: Experiment,
    splits: Splits,
    network: Network,
    device: str,
    *,
    root: Path,
    overrides: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> RunInfo:
    """Return the info of a run that starts now in the checkout `root`, without credentials."""
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
        data=source | _data(experiment, root),
        code=_code(root),
        versions=_versions(experiment),
        dvc=_dvc(),
        command=_command(),
        overrides=mask_nested(list(overrides)),
        warnings=list(warnings),
    )


def _data(experiment: Experiment, root: Path) -> dict[str, Any]:
    """The processed file, and the addresses of its raw data."""
    raw = provenance.read(experiment.data.name, root, paths.PROCESSED)
    addresses = sorted({file.address for file in raw.files if file.address})
    return {
        "file": str(paths.PROCESSED / experiment.data.name / experiment.data.file),
        **mask_nested({"addresses": addresses, "licence": raw.licence, "note": raw.note}),
    }


def _code(root: Path) -> dict[str, Any]:
    """The git commit of the checkout, and whether its files differ from it (except dvc.lock, which runs write)."""

    try:
        status = subprocess.run(
            ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", ".", ":!dvc.lock"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env=_git_environment(),
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = status.splitlines()
    commit = next((line.removeprefix(COMMIT) for line in lines if line.startswith(COMMIT)), "(initial)")
    if commit == "(initial)":
        return {}
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def _git_environment() -> dict[str, str]:
    """Ours without the variables that point git at another repository (set inside hooks), and without its lock."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return inherited | {"GIT_OPTIONAL_LOCKS": "0"}


def _versions(experiment: Experiment) -> dict[str, str]:
    """Versions of Python, of this library and of the libraries that the engine computes with."""
    engine = experiment.engine
    names = ["twinnet", "numpy", *(["keras"] if engine.kind == "keras" else [])]
    names += {"tensorflow": ["tensorflow", "tensorflow-cpu"], "jax": ["jax"]}.get(engine.library, [])
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name.removesuffix("-cpu")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _dvc() -> dict[str, str]:
    """The run's stage and experiment in DVC."""
    found = {"stage": os.environ.get("DVC_STAGE", ""), "exp": os.environ.get("DVC_EXP_NAME", "")}
    return {key: value for key, value in found.items() if value}


def _command() -> str:
    """The command line of this process, without credentials and the folders of this machine."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    started = ["-m", spec.name.removesuffix(".__main__")] if spec else [Path(sys.argv[0] or "-").name]
    return shlex.join(mask_nested(["python", *started, *sys.argv[1:]]))
