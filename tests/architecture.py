"""The rooms as a picture: `python -m tests.architecture` prints the mermaid diagram of CONTRIBUTING.md.

Layers are those of the import contract in pyproject.toml, arrows the imports in the code, without those that a chain of
other arrows implies.
"""

import tomllib
from itertools import chain
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]


def layers() -> list[list[str]]:
    """Return the layers of the contract, the highest first, each a list of modules."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [layer.split(" | ") for layer in contract["layers"]]


def arrows(modules: list[str]) -> set[tuple[str, str]]:
    """Return which of the modules imports which, directly, without arrows that others imply."""
    graph = grimp.build_graph("twinnet", cache_dir=None)
    parts = {module: {module, *graph.find_descendants(module)} for module in modules}
    found = {
        (one, other)
        for one in modules
        for other in modules
        if one != other
        and any(
            imported in parts[other]
            for part in parts[one]
            for imported in graph.find_modules_directly_imported_by(part)
        )
    }
    return {
        (one, other)
        for one, other in found
        if not any((one, third) in found and (third, other) in found for third in modules)
    }


def diagram() -> str:
    """Return the diagram in mermaid's language."""
    lines = ["flowchart TD"]
    for number, layer in enumerate(layers()):
        names = [module.removeprefix("twinnet.") for module in layer]
        lines += [f"  subgraph layer{number}[ ]", *(f"    {_id(name)}[{name}]" for name in names), "  end"]
    modules = list(chain.from_iterable(layers()))
    lines += sorted(f"  {_id(a)} --> {_id(b)}" for a, b in arrows(modules))
    return "\n".join(lines)


def _id(module: str) -> str:
    return module.removeprefix("twinnet.").replace(".", "_")


if __name__ == "__main__":
    print(diagram())
