"""Which training it is: its configuration, its data, and the code and the libraries that compute it, as one hash.

The code's part is a hash over the project's modules that a training imports. It follows the import statements in the
files as they lie on disk, so an edit counts before it is committed, and a commit that touches nothing of a training
does not.
"""

import ast
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from twinnet.core import config
from twinnet.core.schema import Experiment

PACKAGE = Path(__file__).parent
LIBRARIES = ("numpy", "keras", "jax", "jaxlib", "tensorflow", "tensorflow-cpu")
LENGTH = 24  # hexadecimal digits of a key: 96 bits
# What names, describes or only speeds up a training, and so does not make another result of it.
IRRELEVANT = ("name", "description", "allow_degenerate", "limits", "checkpoint_seconds")
IRRELEVANT_ENGINE = ("threads",)


def key(experiment: Experiment, data_digest: str) -> str:
    """Hash of the configuration as far as it matters to the result, the data's hash and the code's version."""
    settings = config.plain(experiment)
    kept = {name: value for name, value in settings.items() if name not in IRRELEVANT}
    kept["engine"] = {name: value for name, value in kept["engine"].items() if name not in IRRELEVANT_ENGINE}
    kept["epochs"] = min(experiment.epochs, experiment.limits.epochs or experiment.epochs)
    kept["samples"] = experiment.limits.samples
    told = [kept, data_digest, version(experiment.engine.kind)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:LENGTH]


@lru_cache
def version(engine: str) -> str:
    """SHA-256 over what `twinnet.training` and this engine import of the project, and their libraries' versions.

    Computed once in a process: the code that runs is the code that was imported, whatever is edited meanwhile.
    """
    digest = hashlib.sha256()
    for file in sorted(modules(f"twinnet.engines.{engine}")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    for name in LIBRARIES:
        digest.update(f"{name} {_installed(name)}\n".encode())
    return digest.hexdigest()


def modules(engine: str, start: str = "twinnet.training") -> set[Path]:
    """Files of the project that a training with the engine (a module's name) imports, directly or not."""
    found: set[Path] = set()
    waiting = [start, engine]
    while waiting:
        name = waiting.pop()
        file = None if _of_another_engine(name, engine) else _file(name)
        if file is not None and file not in found:
            found.add(file)
            waiting += _imports(file)
    return found


def _of_another_engine(name: str, engine: str) -> bool:
    """`devices` asks each engine for its GPUs, so it imports both; a training uses one."""
    home, _, own = engine.rpartition(".")
    part = name.removeprefix(f"{home}.").split(".")[0]
    return name.startswith(f"{home}.") and part != own and (PACKAGE / "engines" / part).is_dir()


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == PACKAGE.name:
                parts = name.split(".")
                yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _file(module: str) -> Path | None:
    """The module's file; None for a name that is no module (a class, a function)."""
    path = PACKAGE.parent / module.replace(".", "/")
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
