"""Execute a notebook on other settings."""

import ast
from pathlib import Path
from typing import Any

import jupytext
import nbclient


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
    return "\n".join(
        output.get("text", "") or "\n".join(map(str, output.get("data", {}).values())) for output in outputs
    )
