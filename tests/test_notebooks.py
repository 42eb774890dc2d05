"""The notebooks run from top to bottom on small settings, are stored without outputs, and hold no logic."""

import ast
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
import pytest

from tests.pipelines.project import Project

NAMES = ("01_what_fit_does", "02_fashion_mnist", "03_compare_runs")


def execute(notebook: Path, root: Path, **parameters: Any) -> str:
    """Run a notebook in the project `root` with other values in its cell of parameters; all its text output."""
    cells = jupytext.read(notebook)
    (declared,) = [cell for cell in cells.cells if "parameters" in cell.metadata.get("tags", [])]
    names = {target.id for node in ast.parse(declared.source).body for target in node.targets}  # type: ignore[attr-defined]  # assignments only
    assert set(parameters) == names
    declared.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    nbclient.NotebookClient(cells, timeout=240, resources={"metadata": {"path": str(root)}}).execute()
    outputs = [output for cell in cells.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_stored_as_text_without_outputs_and_without_logic(root: Path, name: str) -> None:
    file = root / "notebooks" / f"{name}.py"
    read = jupytext.read(file)
    assert read.metadata["jupytext"]["formats"] == "ipynb,py:percent"
    assert not any(cell.get("outputs") for cell in read.cells)
    tree = ast.parse(file.read_text())
    logic = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.While, ast.Try, ast.With, ast.If)
    found = [f"line {node.lineno}" for node in ast.walk(tree) if isinstance(node, logic)]
    assert not found
    assert not list((root / "notebooks").glob("*.ipynb")) or "*.ipynb" in (root / "notebooks/.gitignore").read_text()


@pytest.mark.slow  # trains with Keras in a process of its own
def test_what_fit_does_runs_on_a_small_table(root: Path, tiny_project: Path) -> None:
    shutil.rmtree(tiny_project / "conf")
    shutil.copytree(root / "conf", tiny_project / "conf")
    told = execute(root / "notebooks/01_what_fit_does.py", tiny_project, EPOCHS=30, FRAMES=[1, 10, 30])
    assert "17 parameters" in told
    assert "degenerate: categorical_crossentropy" in told
    assert "dZ2 = dA2 A2 (1 - A2)" in told
    losses = [line.split() for line in told.splitlines() if line.startswith(("train/loss", "valid/loss"))]
    assert losses
    assert all(float(value) < 1e-10 for _, value in losses), losses


@pytest.mark.slow  # the project is the whole pipeline on small settings
@pytest.mark.xdist_group("pipeline")
def test_fashion_mnist_reads_the_runs_of_the_suite(root: Path, copy: Callable[[], Project]) -> None:
    folder = copy().folder
    told = execute(root / "notebooks/02_fashion_mnist.py", folder, EPOCHS=1, SAMPLES=200)
    assert "Conv2D" in told
    assert (folder / "outputs/notebooks/fashion_mine/metrics.json").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_compare_runs_reads_the_store_and_sweeps(root: Path, copy: Callable[[], Project]) -> None:
    folder = copy().folder
    told = execute(root / "notebooks/03_compare_runs.py", folder, EPOCHS=20, SEEDS="1,2", RATES="0.01,0.1")
    assert "nba_keras_book" in told
    assert "optimizer.learning_rate=0.1" in told


def test_a_notebook_written_back_from_ipynb_is_the_same_text(root: Path, tmp_path: Path) -> None:
    for name in NAMES:
        text = (root / "notebooks" / f"{name}.py").read_text()
        pair = tmp_path / f"{name}.ipynb"
        nbformat.write(jupytext.reads(text, fmt="py:percent"), pair)
        assert jupytext.writes(jupytext.read(pair), fmt="py:percent").split() == text.split()
