"""The notebooks run on small settings, are stored without outputs, and hold no logic."""

import ast
import re
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest

from tests.notebook import execute

NAMES = ("01_what_fit_does", "02_fashion_mnist", "03_compare_runs")


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_text_without_outputs_or_logic(root: Path, name: str) -> None:
    file = root / "notebooks" / f"{name}.py"
    read = jupytext.read(file)
    assert read.metadata["jupytext"]["formats"] == "ipynb,py:percent"
    assert not any(cell.get("outputs") for cell in read.cells)
    tree = ast.parse(file.read_text())
    logic = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.While, ast.Try, ast.With, ast.If)
    found = [f"line {node.lineno}" for node in ast.walk(tree) if isinstance(node, logic)]
    assert not found
    assert not list((root / "notebooks").glob("*.ipynb")) or "*.ipynb" in (root / "notebooks/.gitignore").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_each_text_stands_in_both_languages(root: Path, name: str) -> None:
    """A cell in English, and then its twin with as many headings and the same words of code."""
    cells = jupytext.read(root / "notebooks" / f"{name}.py").cells
    tagged = [(cell.metadata.get("tags", []), cell) for cell in cells]
    texts = [
        (tags, cell.source) for tags, cell in tagged if cell.cell_type == "markdown" or set(tags) & {"en", "zh-TW"}
    ]
    assert [tags for tags, _ in texts] == [["en"], ["zh-TW"]] * (len(texts) // 2)
    for (_, english), (_, chinese) in zip(texts[::2], texts[1::2], strict=True):
        assert english.count("## ") == chinese.count("## "), english
        if not english.startswith("print"):
            assert sorted(re.findall(r"`[^`]+`", english)) == sorted(re.findall(r"`[^`]+`", chinese)), english
            assert re.search(r"[\u4e00-\u9fff]", chinese)


@pytest.mark.parametrize("name", NAMES)
def test_texts_count_no_runs_and_rank_no_networks(root: Path, name: str) -> None:
    """What depends on the runs that are there is computed: how many, which one is best, by how much."""
    cells = jupytext.read(root / "notebooks" / f"{name}.py").cells
    text = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    found = re.search(r"\b(two|three|four|five|six|nine) (networks|runs)\b|\b(fewer|better|worse) than\b", text)
    assert not found, found


def test_each_notebook_needs_one_data_set_alone(root: Path) -> None:
    """A project that has deleted the other one runs it."""
    others = {"01_what_fit_does": "fashion", "02_fashion_mnist": "nba", "03_compare_runs": "fashion"}
    for name, other in others.items():
        code = "".join(
            c.source for c in jupytext.read(root / "notebooks" / f"{name}.py").cells if c.cell_type == "code"
        )
        assert other not in code, name


@pytest.mark.slow  # trains with Keras in a process of its own
def test_what_fit_does_runs_on_a_small_table(root: Path, tiny_project: Path) -> None:
    shutil.rmtree(tiny_project / "conf")
    shutil.copytree(root / "conf", tiny_project / "conf")
    output = execute(root / "notebooks/01_what_fit_does.py", tiny_project, EPOCHS=30, FRAMES=[1, 10, 30])
    assert "17 parameters" in output
    assert "data:image/gif;base64,R0lGOD" in output
    assert "degenerate: categorical_crossentropy" in output
    assert "dZ2 = dA2 A2 (1 - A2)" in output
    assert re.search(r"in \d+ of 30 epochs; at last \d", output)
    losses = [line.split() for line in output.splitlines() if line.startswith(("train/loss", "valid/loss"))]
    assert losses
    assert all(float(value) < 1e-10 for _, value in losses), losses


def test_notebook_from_ipynb_is_the_same_text(root: Path, tmp_path: Path) -> None:
    for name in NAMES:
        text = (root / "notebooks" / f"{name}.py").read_text()
        pair = tmp_path / f"{name}.ipynb"
        nbformat.write(jupytext.reads(text, fmt="py:percent"), pair)
        written = jupytext.writes(jupytext.read(pair), fmt="py:percent")
        assert written.partition("# %%")[2].split() == text.partition("# %%")[2].split()
