"""What the documentation says is so: functions it names, numbers it prints, recipes it gives, commands of its hooks."""

import ast
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from twinnet import walkthrough
from twinnet.config.schema import Experiment
from twinnet.engines.scratch import propagation
from twinnet.engines.scratch.arrays import inward
from twinnet.networks import describe

BLOCK = re.compile(r"^```(?:yaml|python) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TRAIN = """
import sys
from pathlib import Path
from twinnet import config
from twinnet.training import train
root = Path.cwd()
experiment = config.experiment(config.compose(root, "train", sys.argv[1:]))
print(train(experiment, root / "runs" / "tried", root=root).metrics)
"""


def run(root: Path, *command: str, folder: Path | None = None, **variables: str) -> str:
    """Standard output of a Python command, with the sources of `folder` (or of `root`) first on the path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINNET_")}
    environment |= {"PYTHONPATH": str((folder or root) / "src"), **variables}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder or root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --------------------------------------------------------------------------------------- mathematics


def test_every_function_in_the_mathematics_stands_in_the_file_it_links_to(root: Path) -> None:
    page = (root / "docs/mathematics.md").read_text()
    links = re.findall(r"\[`(\w+)`\]\(\.\./(src/[\w/]+\.py)\)", page)
    assert len(links) > 25
    for name, file in links:
        defined = {n.name for n in ast.walk(ast.parse((root / file).read_text())) if isinstance(n, ast.FunctionDef)}
        assert name in defined, f"{name} in {file}"


def test_the_mathematics_leaves_no_formula_of_the_engine_out(root: Path) -> None:
    page = (root / "docs/mathematics.md").read_text()
    scratch = root / "src/twinnet/engines/scratch"
    for module in ("layers", "images", "activations", "losses", "optimizers"):
        for node in ast.parse((scratch / f"{module}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                named = f"[`{node.name}`]" in page
                assert named or node.name in HELPERS, f"{module}.{node.name}"


HELPERS = {  # no formula: they rearrange, choose or count
    "unfold", "activate_forward", "activate_backward", "flatten_forward", "flatten_backward", "target", "metric",
    "start",
}  # fmt: skip


# ----------------------------------------------------------------------------------------- one sample


def test_the_page_of_one_sample_is_what_the_command_prints(root: Path) -> None:
    page = (root / "docs/one_sample.md").read_text()
    command = re.search(r"^python -m (twinnet\.walkthrough .*)$", page, re.MULTILINE)
    assert command
    printed = page.split("<!-- printed -->")[1].strip().removeprefix("```\n").removesuffix("```")
    assert run(root, "-m", *shlex.split(command[1])).rstrip() == printed.rstrip()


@pytest.mark.parametrize("optimizer", ["gradient_descent", "adam", "nesterov"])
def test_the_walk_is_the_step_that_training_takes(compose: Callable[..., Experiment], optimizer: str) -> None:
    experiment = compose("nba_scratch", f"optimizer={optimizer}", "model.hidden_units=[4,3]", "model.activation=tanh")
    walked = walkthrough.walk(experiment, np.array([3.4, 3.6]), 0)

    network = describe(experiment)
    weights = propagation.spread(
        network.layers, inward(network.initial_weights(experiment.model.init, experiment.seed, "float64"))
    )
    recipe = propagation.recipe(
        network, walkthrough.rules.loss(experiment), experiment.data.task, experiment.optimizer, 1
    )
    A, Y = propagation.inputs(recipe, np.array([[3.4, 3.6]]), np.array([0]), np)
    state = propagation.optimizers.start(experiment.optimizer, weights, np)
    rate = np.asarray(experiment.optimizer.learning_rate)
    updated, _, loss, _ = propagation.step(recipe, weights, state, rate, A, Y, {}, np)

    assert walked.loss == loss
    dense = [layer for layer in updated if layer]
    for layer, expected in zip(walked.layers, dense, strict=True):
        np.testing.assert_array_equal(layer.W_after, expected["W"])
        np.testing.assert_array_equal(layer.b_after, expected["b"])
    assert walked.loss_after < walked.loss


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--features", "1", "--label", "guard"], "expected 2 (apg, rpg); received 1"),
        (["--features", "1", "2", "--label", "centre"], "expected one of guard, forward; received 'centre'"),
        (["--features", "1", "2"], "expected --features together with --label"),
        (["experiment=fashion_cnn"], "expected a table and dense layers"),
    ],
)
def test_a_walk_that_cannot_be_is_one_line(
    root: Path, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["walkthrough", *arguments])
    with pytest.raises(SystemExit) as ended:
        walkthrough.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


# -------------------------------------------------------------------------------------------- recipes


@pytest.fixture
def recipes(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Heading -> (file, text) of each block of CONTRIBUTING.md that names its file."""
    page = (root / "CONTRIBUTING.md").read_text()
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")}
    return {heading: BLOCK.findall(part) for heading, part in sections.items() if BLOCK.search(part)}


@pytest.fixture
def house(root: Path, tiny_project: Path) -> Path:
    """A small project with the sources and the configuration, free to be changed."""
    shutil.rmtree(tiny_project / "conf")
    for folder in ("src", "conf", "pipelines"):
        shutil.copytree(root / folder, tiny_project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tiny_project


def follow(house: Path, blocks: list[tuple[str, str]]) -> None:
    """Make the files that do not exist, and append to those that do."""
    for file, text in blocks:
        with (house / file).open("a") as opened:
            opened.write(f"\n\n{text}" if opened.tell() else text)


def test_each_recipe_has_fewer_than_ten_lines(recipes: dict[str, list[tuple[str, str]]]) -> None:
    """Nine at most, one of which stands in conf/config.yaml."""
    assert set(recipes) == {"Add a data set", "Add a model", "Add an optimizer", "Add an experiment"}
    for heading, blocks in recipes.items():
        assert sum(len(text.splitlines()) for _, text in blocks) < 9, heading


def test_adding_a_model_as_described(root: Path, house: Path, recipes: dict[str, list[tuple[str, str]]]) -> None:
    follow(house, recipes["Add a model"])
    overrides = ["engine=scratch_numpy", "model=pyramid", "model.widest=8", "epochs=3"]
    told = run(root, "-c", TRAIN, *overrides, folder=house)
    assert f"'parameters': {(2 * 8 + 8) + (8 * 4 + 4) + (4 + 1)}," in told


def test_adding_an_optimizer_as_described(root: Path, house: Path, recipes: dict[str, list[tuple[str, str]]]) -> None:
    follow(house, recipes["Add an optimizer"])
    run(
        root,
        "-c",
        TRAIN,
        "engine=scratch_numpy",
        "optimizer=sign_descent",
        "epochs=1",
        "model.init=he_normal",
        folder=house,
    )
    with np.load(house / "runs/tried/model.npz") as saved:
        biases = saved["0/b"]
    np.testing.assert_allclose(np.abs(biases), 0.001, rtol=1e-6)


def test_adding_an_experiment_as_described(root: Path, house: Path, recipes: dict[str, list[tuple[str, str]]]) -> None:
    follow(house, recipes["Add an experiment"])
    told = run(root, "-c", TRAIN, "experiment=nba_adam", "engine=scratch_numpy", "epochs=4", folder=house)
    assert "'epochs': 4" in told
    suite = house / "conf/config.yaml"
    suite.write_text(
        suite.read_text().replace("  - _self_", "  - experiment@experiments.nba_adam: nba_adam\n  - _self_")
    )
    run(root, "-m", "pipelines.params", "write", folder=house)
    assert yaml.safe_load((house / "params.yaml").read_text())["experiments"]["nba_adam"]["optimizer"]["kind"] == "adam"


def test_adding_a_data_set_as_described(
    root: Path, house: Path, recipes: dict[str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    mirror = house / "mirror"
    (mirror / "digits").mkdir(parents=True)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6000, 28, 28), dtype=np.uint8)
    np.savez(mirror / "digits" / "digits.npz", X=images, y=(np.arange(6000) % 10).astype(np.uint8))
    sha = hashlib.sha256((mirror / "digits" / "digits.npz").read_bytes()).hexdigest()
    follow(house, [(file, text.replace("SHA-256", sha)) for file, text in recipes["Add a data set"]])
    suite = house / "conf/config.yaml"
    (line,) = re.findall(r"`(- dataset@\S+ \S+)`", (root / "CONTRIBUTING.md").read_text())
    suite.write_text(suite.read_text().replace("  - _self_", f"  {line}\n  - _self_"))

    run(root, "-m", "pipelines.params", "write", folder=house)
    run(root, "-m", "pipelines.download", "digits", folder=house, TWINNET_MIRROR=str(mirror))
    run(root, "-m", "pipelines.preprocess", "digits", folder=house)
    overrides = ["experiment=fashion_dense", "data=digits", "engine=scratch_numpy", "epochs=1", "profile.samples=64"]
    told = run(root, "-c", TRAIN, *overrides, folder=house)
    assert "'data_source': 'mirror'" in told


# ------------------------------------------------------------------------------------ what else is told


def test_the_map_names_every_package_and_every_contract_is_told(root: Path) -> None:
    page = (root / "CONTRIBUTING.md").read_text()
    for package in (root / "src/twinnet").glob("*/__init__.py"):
        assert f"`src/twinnet/{package.parent.name}/`" in page, package.parent.name
    for name in re.findall(r"^pytest (tests/\S+)", page, re.MULTILINE):
        assert (root / name).exists()


def test_the_hooks_are_valid_and_have_no_address(root: Path) -> None:
    file = root / ".pre-commit-config.yaml"
    run(root, "-m", "pre_commit", "validate-config", str(file))
    hooks = [hook for repo in yaml.safe_load(file.read_text())["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in yaml.safe_load(file.read_text())["repos"]} == {"local"}
    assert {hook["id"] for hook in hooks} == {"ruff-format", "ruff-check", "params"}
    for hook in hooks:
        assert hook["entry"].startswith(".venv/bin/")


def test_version_and_licence_are_told_the_same_everywhere(root: Path) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    project = (root / "pyproject.toml").read_text()
    assert f'version = "{citation["version"]}"' in project
    assert f'license = "{citation["license"]}"' in project
    assert f"## [{citation['version']}]" in (root / "CHANGELOG.md").read_text()
