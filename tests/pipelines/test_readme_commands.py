"""Commands of README.md, as they stand there, in a copy of a project in which every stage has run on small settings."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.project import Project
from tests.readme import commands

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

# In one process, as most of a command of DVC is its start; by its own entry point.
DVC = """
import shlex, sys
from dvc.cli import main
for line in sys.argv[1:]:
    print("$", line, flush=True)
    if status := main(shlex.split(line)[1:]):
        sys.exit(status)
"""
NOTEBOOK = """# %% [markdown]
# # A heading
# %%
print("computed:", 6 * 7)
"""


@pytest.fixture(scope="module")
def mine(copy: Callable[[], Project]) -> Project:
    return copy()


@pytest.fixture(scope="module")
def told(root: Path) -> Callable[[str], list[str]]:
    """`told("dvc plots")`: the commands of README.md that begin so, of which there is at least one."""

    def beginning(words: str) -> list[str]:
        found = [command for command in commands((root / "README.md").read_text()) if command.startswith(words)]
        assert found, words
        return found

    return beginning


def test_stages_are_asked_for_by_name(told: Callable[[str], list[str]], mine: Project) -> None:
    asked = [f"{command} --dry" for command in told("dvc repro ")]
    output = mine.run(sys.executable, "-c", DVC, *asked).stdout
    for command, planned in zip(asked, output.split("$ dvc ")[1:], strict=True):
        assert command.split()[-2] in planned.partition("\n")[2], planned


def test_the_plots_of_the_suite_are_one_page(told: Callable[[str], list[str]], mine: Project) -> None:
    show, _ = told("dvc plots")
    mine.run(*show.split())
    page = (mine.folder / "build/plots/index.html").read_text()
    for title in ("loss on nba", "accuracy on fashion_mnist", "confusion/fashion_cnn.csv", "decision_boundary.png"):
        assert title in page
    assert "{plot_divs}" not in page


def test_one_experiment_is_trained_without_dvc(told: Callable[[str], list[str]], mine: Project) -> None:
    (command,) = told("python -m twinnet.train experiment=nba_scratch")
    done = mine.run(*command.split(), "tracking=none")
    assert "2000 epochs in" in done.stdout
    assert "the run lies in" in done.stdout


def test_a_wrong_combination_is_the_line_that_is_shown(
    told: Callable[[str], list[str]], root: Path, mine: Project
) -> None:
    (command,) = told("python -m twinnet.train experiment=nba_keras")
    shown = (root / "README.md").read_text().partition(f"$ {command}\n")[2].partition("\n")[0]
    done = mine.run(*shlex.split(command), check=False)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(shown.removesuffix("..."))


def test_notebooks_become_pages_with_their_outputs(mine: Project) -> None:
    (mine.folder / "own.py").write_text(NOTEBOOK)
    mine.run("make", "-o", ".venv/dev", "notebooks", "NOTEBOOKS=own.py")
    page = (mine.folder / "reports/notebooks/own.html").read_text()
    assert "computed: 42" in page
    assert "<title>A heading</title>" in page
    assert "<script" not in page, "a page fetches nothing"
    (mine.folder / "own.py").write_text(NOTEBOOK + "raise SystemError\n")
    assert mine.run("make", "-o", ".venv/dev", "notebooks", "NOTEBOOKS=own.py", check=False).returncode != 0
