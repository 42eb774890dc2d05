"""The wheel: its files, its page, its class without a checkout; commands that need one; one version everywhere."""

import os
import re
import runpy
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.metadata import Metadata
from uv import find_uv_bin

import twinnet
from tests.readme import LINK

CLONE = "error: expected a checkout of twinnet (conf/, dvc.yaml); received {folder}; clone it, and start there\n"
NEED_A_CHECKOUT = (
    "train", "train -m seed=1,2", "train --help", "search", "compare", "compare --print", "tracking ui",
    "tracking server", "tracking promote nba", "walkthrough",
)  # fmt: skip
LIGHT = """
import sys, time
start = time.process_time()
import twinnet
assert time.process_time() - start < 0.3
assert not {"numpy", "sklearn", "jax", "hydra", "mlflow", "importlib.metadata"} & set(sys.modules)
"""


def build_wheel(root: Path, folder: Path) -> Path:
    """Build the wheel of this checkout; skip the test if hatchling is not in uv's cache."""
    command = [find_uv_bin(), "build", "--wheel", "--offline", "-q", "-o", str(folder), str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "hatchling" in done.stderr:
        pytest.skip("needs hatchling in uv's cache, where `make` leaves it")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build_wheel(root, tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def test_wheel_has_the_sources_and_nothing_else(root: Path, wheel: zipfile.ZipFile) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."]
    sources = subprocess.run(command, cwd=root / "src", capture_output=True, text=True, check=True).stdout.splitlines()
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert files == {name for name in sources if (root / "src" / name).exists()}
    assert {"twinnet/py.typed", "hydra_plugins/twinnet_sweeper/__init__.py"} <= files
    rest = {name.partition("/")[2] for name in set(wheel.namelist()) - files}
    assert rest == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_page_of_the_wheel_has_no_link_into_the_checkout(root: Path, wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = Metadata.from_email(wheel.read(name), validate=False)
    page = (root / "docs/package.md").read_text()
    assert metadata.description == page
    assert metadata.description_content_type == "text/markdown"
    assert all(target.startswith("https://") for target in LINK.findall(page))


def test_pythons_are_the_same_everywhere(root: Path, project: dict[str, Any]) -> None:
    """Those of the classifiers, of the workflow, of make and of the lock files."""
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    workflow = yaml.safe_load((root / ".github/workflows/test.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == named
    oldest, newest = (int(version.partition(".")[2]) for version in (named[0], named[-1]))
    assert project["requires-python"] == f">=3.{oldest},<3.{newest + 1}"
    assert f"(3, {oldest}) <= sys.version_info < (3, {newest + 1})" in (root / "Makefile").read_text()


def test_version_and_licence_are_the_same_everywhere(root: Path, project: dict[str, Any]) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert citation["version"] == twinnet.__version__ == project["version"]
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    headings = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[headings[0] == "Unreleased"] == project["version"]
    listing = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=root, capture_output=True, text=True).stdout
    if tags := [tag for tag in listing.splitlines() if re.match(r"v\d", tag)]:
        assert tags == [f"v{project['version']}"]
        assert headings[0] == project["version"], "a release has no unreleased changes"


def test_class_trains_and_predicts_from_the_wheel(root: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The example of docs/package.md, in a folder that is not a checkout."""
    wheel.extractall(tmp_path / "site")
    (example,) = re.findall(r"```python\n(.*?)```", (root / "docs/package.md").read_text(), re.DOTALL)
    shown = "print(network.score(X, y), twinnet.__file__, twinnet.__version__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{LIGHT}\n{example}\n{shown}"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    score, file, version = done.stdout.split()
    assert float(score) > 0.95
    assert Path(file).is_relative_to(tmp_path / "site")
    assert version == twinnet.__version__
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"], "nothing is written into the folder"


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is not a checkout; the working directory."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", NEED_A_CHECKOUT)
def test_command_without_a_checkout_is_one_line(
    command: str, away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, *words = command.split()
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"twinnet.{module}", run_name="__main__")
    assert ended.value.code == 1
    assert capsys.readouterr().err == CLONE.format(folder=away)
    assert not list(away.iterdir())
