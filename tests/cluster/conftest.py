"""Tests of several hosts and of real servers; `make cluster` ends with a table of what was done and what was lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

SCENARIO, DONE, LOST = "scenario", "done", "lost"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`tried("one node of two was killed after 4 of 12 jobs")`: what the table says was done, once it is shown."""
    properties = request.node.user_properties
    properties.append((SCENARIO, (request.function.__doc__ or request.node.name).split("\n")[0]))
    return lambda done, lost="nothing": properties.extend([(DONE, done), (LOST, lost)])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            found = dict(report.user_properties)
            if report.when == "call" and SCENARIO in found:
                lost = found.get(LOST, "") if outcome == "passed" else "FAILED"
                rows.append(f"| {found[SCENARIO]} | {found.get(DONE, '')} | {lost} | {report.duration:.0f} |")
    if rows:
        head = ["| scenario | what was done | lost | seconds |", "| --- | --- | --- | --- |"]
        terminalreporter.write_line("\n".join([*head, *rows]))
