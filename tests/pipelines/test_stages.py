"""dvc.yaml says what its stages really need: every module they import, every value they read."""

import re
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

ENGINES = ("scratch", "keras")
# What a tracker does cannot change a result: editing it publishes again, and trains nothing again.
WITHOUT_EFFECT = {"train": "twinnet.tracking"}


@pytest.fixture(scope="module")
def stages(root: Path) -> dict[str, dict[str, Any]]:
    """Each stage of dvc.yaml as it is run: `do` where there is a foreach."""
    written = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in written.items()}


@pytest.fixture(scope="module")
def imports(root: Path) -> grimp.ImportGraph:
    sys.path.insert(0, str(root))
    try:
        return grimp.build_graph("pipelines", "twinnet", cache_dir=None)
    finally:
        sys.path.remove(str(root))


def module_file(root: Path, module: str) -> Path | None:
    base = root / (module if module.startswith("pipelines") else f"src/{module}").replace(".", "/")
    found = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return found.relative_to(root) if found.read_text().strip() else None


def needed(root: Path, imports: grimp.ImportGraph, modules: list[str], without: str | None) -> set[Path]:
    """Files of the project that the modules import, directly or not, with the packages that hold them."""
    imports = deepcopy(imports)
    for module in [module for module in imports.modules if without and f"{module}.".startswith(f"{without}.")]:
        imports.remove_module(module)
    found = set(modules)
    for module in modules:
        found |= imports.find_upstream_modules(module)
    for module in list(found):
        parts = module.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts))}
    return {file for module in found if (file := module_file(root, module))}


def test_the_deps_of_each_stage_name_every_module_it_imports(
    root: Path, stages: dict[str, dict[str, Any]], imports: grimp.ImportGraph
) -> None:
    missing: dict[str, list[str]] = {}
    for name, stage in stages.items():
        module = re.fullmatch(r"python -m (pipelines\.\w+).*", stage["cmd"])[1]  # type: ignore[index]  # else fails
        for engine in ENGINES if name == "train" else ("",):
            roots = [module] + ([f"twinnet.engines.{engine}"] if engine else [])
            deps = [Path(str(dep).replace("${item.engine.kind}", engine)) for dep in stage["deps"]]
            uncovered = [
                str(file)
                for file in needed(root, imports, roots, WITHOUT_EFFECT.get(name))
                if not any(file == dep or dep in file.parents for dep in deps)
            ]
            if uncovered:
                missing[f"{name} {engine}".strip()] = sorted(uncovered)
    assert not missing


def test_every_file_among_the_deps_exists(root: Path, stages: dict[str, dict[str, Any]]) -> None:
    for name, stage in stages.items():
        for dep in map(str, stage["deps"]):
            if dep.startswith(("src/", "pipelines", "conf")):
                for engine in ENGINES:
                    assert (root / dep.replace("${item.engine.kind}", engine)).exists(), f"{name}: {dep}"


def test_plots_and_metrics_name_each_experiment_of_the_suite(root: Path) -> None:
    written = yaml.safe_load((root / "dvc.yaml").read_text())
    experiments = set(yaml.safe_load((root / "params.yaml").read_text())["experiments"])
    named = {metric.split("/")[1] for metric in written["metrics"] if metric.startswith("runs/")}
    assert named == experiments


def test_stages_other_than_train_and_compare_never_load_a_framework(root: Path, imports: grimp.ImportGraph) -> None:
    """`download` and `preprocess` reach neither the engines nor MLflow."""
    for stage in ("pipelines.params", "pipelines.download", "pipelines.preprocess"):
        reached = imports.find_upstream_modules(stage)
        assert not any(module.startswith(("twinnet.engines", "twinnet.tracking")) for module in reached), stage
