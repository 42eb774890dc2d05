"""The wheel in an empty environment, and the lock files on other platforms; both ask the package index."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from uv import find_uv_bin

from tests.processed import write_arrays
from tests.test_package import CLONE, NEED_A_CHECKOUT, build_wheel
from twinnet.core.schema import Experiment
from twinnet.training.experiment import train

PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
SOURCE_ALONE = "antlr4-python3-runtime"  # no wheel, Python alone
LEFT_OUT = "x86_64-apple-darwin"
WITHOUT_A_WHEEL = ("jaxlib", "tensorflow", "cryptography")  # on LEFT_OUT


def run(*command: str | Path, cwd: Path, seconds: float = 900, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=seconds)


def locked(file: Path) -> set[str]:
    """Return name==version of each package of a lock file, with the platforms that it is for."""
    return set(re.findall(r"^([\w.-]+==[^\\\n]+)", file.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.fixture(scope="module")
def uv(root: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`uv("pip", "install", ...)`, with the index that pip is configured with, as the Makefile has it."""
    asked = run(sys.executable, "-m", "pip", "config", "get", "global.index-url", cwd=root).stdout.strip()
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    index = next((os.environ[name] for name in names if os.environ.get(name)), asked)
    variables = {"UV_SYSTEM_CERTS": "true"} | ({"UV_DEFAULT_INDEX": index} if index else {})

    def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return run(find_uv_bin(), *words, cwd=root, **variables)

    if call("pip", "install", "--dry-run", "--reinstall", "--refresh", "--no-deps", "tabulate").returncode:
        pytest.skip("needs a package index")
    return call


@pytest.fixture
def run_of_images(tmp_path: Path, compose: Callable[..., Experiment]) -> Path:
    """The folder of a finished run on images, trained by this checkout."""
    random, root = np.random.default_rng(0), tmp_path / "project"
    labels = np.arange(40) % 10
    images = random.integers(0, 256, (40, 28, 28)).astype(np.uint8)
    splits = {f"{name}_{split}": array for split in ("train", "test") for name, array in (("X", images), ("y", labels))}
    write_arrays(root, "fashion_mnist", splits)
    experiment = compose("fashion_dense_scratch", "epochs=1", "engine=scratch_numpy", "data.valid_samples=10")
    return train(experiment, tmp_path / "given", root=root).directory


def test_wheel_works_in_an_empty_environment(
    root: Path, tmp_path: Path, uv: Callable[..., subprocess.CompletedProcess[str]], run_of_images: Path,
    tried: Callable[..., None],
) -> None:  # fmt: skip
    """The wheel, installed with its dependencies in an empty environment"""
    away, python = tmp_path / "away", tmp_path / "env/bin/python"
    away.mkdir()
    for words in (
        ["venv", "-q", "-p", sys.executable, tmp_path / "env"],
        ["pip", "install", "-q", "--python", python, build_wheel(root, tmp_path / "dist")],
    ):
        done = uv(*words)
        assert done.returncode == 0, done.stderr
    packages = run(python, "-c", "import importlib.util as u; assert not u.find_spec('optuna')", cwd=away)
    assert packages.returncode == 0, packages.stderr
    (example,) = re.findall(r"```python\n(.*?)```", (root / "docs/package.md").read_text(), re.DOTALL)
    done = run(python, "-c", f"{example}\nassert network.score(X, y) > 0.95", cwd=away)
    assert done.returncode == 0, done.stderr
    seconds = run(
        python, "-c", "import time; t = time.process_time(); import twinnet; print(time.process_time() - t)", cwd=away
    )
    assert float(seconds.stdout) < 0.3
    Image.fromarray(np.eye(28, dtype=np.uint8) * 200).save(away / "image.png")
    for model in (run_of_images, run_of_images / "model.npz"):
        done = run(python, "-m", "twinnet.predict", model, "image.png", cwd=away)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("%") == 3
    done = run(python, "-m", "twinnet.show", run_of_images, cwd=away)
    assert "parameters" in done.stdout, done.stderr
    for command in NEED_A_CHECKOUT:
        done = run(python, "-m", *f"twinnet.{command}".split(), cwd=away)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", CLONE.format(folder=away)), command
    done = run(python, "-m", "twinnet.show", "runs/none", cwd=away)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert [path.name for path in away.iterdir()] == ["image.png"]
    tried(
        f"the class fits, predict and show read a run, {len(NEED_A_CHECKOUT)} commands ask for a checkout in one line"
    )


def test_lock_files_resolve_on_each_platform(
    root: Path, tmp_path: Path, uv: Callable[..., subprocess.CompletedProcess[str]], tried: Callable[..., None]
) -> None:
    """The lock files, resolved with hashes for each platform and each Python"""

    def resolve(file: str, platform: str, python: str, *source: str) -> subprocess.CompletedProcess[str]:
        given = ("-r", file, "--python-platform", platform, "--python-version", python, "--only-binary", ":all:")
        built = [word for name in (SOURCE_ALONE, *source) for word in ("--no-binary", name)]
        return uv("pip", "install", "--dry-run", "--target", tmp_path / "none", "--require-hashes", *given, *built)

    packages = {name: locked(root / name) for name in ("requirements.lock", "requirements-dev.lock")}
    assert packages["requirements.lock"] <= packages["requirements-dev.lock"], "the second stands for both"
    for platform in PLATFORMS:
        for python in PYTHONS:
            done = resolve("requirements-dev.lock", platform, python)
            assert done.returncode == 0, f"{platform} {python}: {done.stderr}"
            assert "Would install" in done.stderr
    for python in PYTHONS:
        done, built = resolve("requirements.lock", LEFT_OUT, python), []
        while found := re.search(r"([\w-]+)==\S+ has no (?:usable )?wheels", done.stderr):
            built.append(found[1])
            done = resolve("requirements.lock", LEFT_OUT, python, *built)
        assert set(built) <= set(WITHOUT_A_WHEEL), "docs/package.md says what macOS on Intel lacks"
        assert "jaxlib" in built
        assert done.returncode != 0, "docs/package.md says that macOS on Intel cannot be used"
    tried(f"{len(PLATFORMS)} platforms × {len(PYTHONS)} Pythons of both lock files; macOS on Intel has no wheel of JAX")
