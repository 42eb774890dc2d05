"""Blocks, commands, links and headings of the project's pages."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMENT = re.compile(r"\s+#.*$")
COMMAND = re.compile(r"(\w+=\S+ )*(make|dvc|python -m|pytest|uv|source|apt-get|runuser|createdb|curl|mlflow|git) ")


@dataclass(frozen=True)
class Line:
    """A line of a page: its number from 1, its text, and the kind of text it stands in."""

    number: int
    text: str
    kind: str  # prose, table, heading, or the language of its block, which is console if none is named

    @property
    def in_block(self) -> bool:
        return self.kind not in ("prose", "table", "heading")


def pages(root: Path) -> dict[str, str]:
    """Return the text of every page that tells a reader what to run, by its path."""
    names = ("README.md", "README.zh-TW.md", "CONTRIBUTING.md")
    files = [*(root / name for name in names), *sorted((root / "docs").glob("*.md"))]
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def lines(page: str) -> Iterator[Line]:
    """Yield the lines of a page that are not empty."""
    block = None
    for number, text in enumerate(page.splitlines(), start=1):
        if text.startswith("```"):
            block = None if block is not None else text[3:] or "console"
        elif block is not None:
            yield Line(number, text, block)
        elif text.strip():
            yield Line(number, text, "heading" if text.startswith("#") else "table" if text[0] == "|" else "prose")


def skeleton(page: str) -> list[tuple[int, str]]:
    """Return what is the same in every language, with line numbers: heading levels, and blocks without comments."""
    found = []
    for line in lines(page):
        if line.in_block and line.kind not in ("mermaid", "text") and (text := COMMENT.sub("", line.text)):
            found.append((line.number, text))
        elif line.kind == "heading":
            found.append((line.number, line.text.split()[0]))
    return found


def commands(page: str) -> dict[str, int]:
    """Return each command that a page gives, and the number of its first line.

    In a block where a line begins with "$ " the other lines are output.
    """
    found: dict[str, int] = {}
    for line in lines(page):
        if line.kind == "console":
            texts = [COMMENT.sub("", line.text).removeprefix("$ ")]
        else:
            texts = [] if line.in_block else CODE.findall(line.text)
        for text in texts:
            if COMMAND.match(text):
                found.setdefault(text, line.number)
    return found


def words(command: str) -> list[str]:
    """Return the words of a command as a shell splits them, without its environment and what it redirects."""
    split = shlex.split(command.partition(" > ")[0])
    while re.match(r"[A-Z_]+=", split[0]):
        split.pop(0)
    return split


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = [line.text.lstrip("#").strip().lower() for line in lines(page) if line.kind == "heading"]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
