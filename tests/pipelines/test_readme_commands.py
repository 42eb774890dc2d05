"""Commands of the pages, as they stand there, in a copy of a project in which every stage has run on small settings."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.project import Project
from tests.readme import commands, pages, words

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

NOTEBOOK = """# %% [markdown] tags=["en"]
# # A heading
# %% [markdown] tags=["zh-TW"]
# # 標題
# %%
print("computed:", 6 * 7)
"""


@pytest.fixture(scope="module")
def mine(copy: Callable[[], Project]) -> Project:
    return copy()


@pytest.fixture(scope="module")
def command(root: Path) -> Callable[[str], list[str]]:
    """`command("dvc plots show")`: the words of the one command of the pages that begins so."""

    def beginning(start: str) -> list[str]:
        found = {c for page in pages(root).values() for c in commands(page) if c.startswith(start)}
        assert len(found) == 1, found
        return found.pop().split()

    return beginning


def test_plots_of_the_suite_are_one_page(command: Callable[[str], list[str]], mine: Project) -> None:
    mine.run(*command("dvc plots show"))
    page = (mine.folder / "build/plots/index.html").read_text()
    for title in ("loss/nba_", "accuracy/fashion_mnist_", "confusion/fashion_cnn.csv", "decision_boundary.png"):
        assert title in page
    assert "{plot_divs}" not in page


def test_experiment_is_trained_without_dvc(command: Callable[[str], list[str]], mine: Project) -> None:
    done = mine.run(*command("python -m twinnet.train experiment=nba_scratch epochs=2000 optimizer"), "tracking=none")
    assert "2000 epochs in" in done.stdout
    assert "the run lies in" in done.stdout


def test_wrong_combination_is_one_line_and_status_one(command: Callable[[str], list[str]], mine: Project) -> None:
    """tests/test_readme.py compares the line with the one that the README shows."""
    done = mine.run(*command("python -m twinnet.train experiment=nba_keras loss="), check=False)
    assert done.returncode == 1
    elsewhere = "warning: the code that runs is"  # a copy runs the sources of this checkout, and says so
    assert len([line for line in done.stdout.splitlines() if not line.startswith(elsewhere)]) == 1


def test_python_of_the_readme_draws_a_boundary(root: Path, mine: Project) -> None:
    done = mine.run("python", "-c", python_of(root / "README.md"))
    assert " 90,000 updates: loss" in done.stdout
    assert (mine.folder / "boundary.png").stat().st_size > 20_000


def test_page_cell_by_cell_runs(root: Path, mine: Project) -> None:
    """Its Python in one process, and the commands that show a run; those that train are composed in test_readme.py."""
    page = root / "docs/cell_by_cell.md"
    done = mine.run("python", "-W", "error", "-c", f"{python_of(page)}\nprint(len(figure.axes[0].images), 'images')")
    assert re.search(r"^\d+ players, data from: synthetic$", done.stdout, re.MULTILINE)
    assert len(re.findall(r" updates: loss", done.stdout)) == 10
    assert "15 images" in done.stdout
    shown = [mine.run(*words(c)).stdout for c in commands(page.read_text()) if c.startswith("python -m twinnet.show")]
    assert [re.findall(r"[\d,]+ parameters", text)[0] for text in shown] == ["17 parameters", "335,114 parameters"]
    assert "W2 4 x 1" in shown[0]


def python_of(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL))


def test_notebooks_become_pages_with_their_outputs(mine: Project) -> None:
    (mine.folder / "own.py").write_text(NOTEBOOK)
    mine.run("make", "-o", ".venv/dev", "notebooks", "NOTEBOOKS=own.py")
    titles = {"own.html": ("en", "A heading"), "own.zh-TW.html": ("zh-TW", "標題")}
    pages = {page.name: page.read_text() for page in (mine.folder / "reports/notebooks").iterdir()}
    assert set(pages) == set(titles)
    for name, (language, title) in titles.items():
        assert "computed: 42" in pages[name]
        assert f'<html lang="{language}">' in pages[name]
        assert f"<title>{title}</title>" in pages[name]
        assert "<script" not in pages[name], "a page fetches nothing"
        assert not any(other in pages[name] for _, other in titles.values() if other != title)
    (mine.folder / "own.py").write_text(NOTEBOOK + "raise SystemError\n")
    assert mine.run("make", "-o", ".venv/dev", "notebooks", "NOTEBOOKS=own.py", check=False).returncode != 0
