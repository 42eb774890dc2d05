"""What a README holds that a test can compare or run: its facts in their order, its commands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

CODE = re.compile(r"`([^`\n]+)`")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*%?")
LINK = re.compile(r"\]\(([^)]+)\)")
COMMENT = re.compile(r"\s+#.*$")
COMMAND = re.compile(r"(\w+=\S+ )*(make|dvc|python -m|uv|source|apt-get|runuser|createdb|pip|curl|mlflow|git) ")


@dataclass(frozen=True)
class Line:
    """A line of the page: its number from 1, its text, and where it stands."""

    number: int
    text: str
    kind: str  # prose, table, heading, or the language of its block ("" where none is named)

    @property
    def in_block(self) -> bool:
        return self.kind not in ("prose", "table", "heading")


def lines(page: str) -> Iterator[Line]:
    """The lines of the page that say something."""
    block = None
    for number, text in enumerate(page.splitlines(), start=1):
        if text.startswith("```"):
            block = None if block is not None else text[3:] or "console"
        elif block is not None:
            yield Line(number, text, block)
        elif text.strip():
            yield Line(number, text, "heading" if text.startswith("#") else "table" if text[0] == "|" else "prose")


def ordered(page: str) -> list[tuple[Line, str]]:
    """What has to be the same line by line in every language: levels, blocks without comments, facts of tables."""
    found = []
    for line in lines(page):
        if line.in_block and (text := COMMENT.sub("", line.text)):
            found.append((line, f"{line.kind}: {text}"))
        elif line.kind == "heading":
            found.append((line, line.text.split()[0]))
        elif line.kind == "table":
            found.append((line, " | ".join(facts(line.text))))
    return found


def sections(page: str) -> list[list[tuple[Line, str]]]:
    """The facts of the prose, which may stand in another order, section by section."""
    found: list[list[tuple[Line, str]]] = [[]]
    for line in lines(page):
        if line.kind == "heading":
            found.append([])
        elif line.kind == "prose":
            found[-1] += [(line, fact) for fact in facts(line.text) if not fact.startswith("README")]
    return found


def facts(text: str) -> list[str]:
    """Code, numbers and the targets of links."""
    prose = LINK.sub("]", CODE.sub("", text))
    return CODE.findall(text) + LINK.findall(text) + NUMBER.findall(prose)


def commands(page: str) -> dict[str, int]:
    """Each command that the page tells its reader to run, and the number of its first line."""
    found: dict[str, int] = {}
    for line in lines(page):
        if line.kind == "console":
            told = [COMMENT.sub("", line.text).removeprefix("$ ")]
        elif line.in_block:
            told = []
        else:
            told = CODE.findall(line.text)
        for command in told:
            if COMMAND.match(command):
                found.setdefault(command, line.number)
    return found
