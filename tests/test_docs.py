"""Pages of docs/ and CONTRIBUTING.md against the code: formulas, printed numbers, recipes, diagram, hooks."""

import ast
import hashlib
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pandas as pd
import pathspec
import pytest
import yaml
from dvc_render.html import HTML
from packaging.utils import canonicalize_name

from tests import architecture, configuration_page
from tests.suite import keep_entries
from twinnet import walkthrough
from twinnet.core.network import build_network
from twinnet.core.schema import Experiment
from twinnet.engines.scratch import step
from twinnet.engines.scratch.arrays import to_engine_layout
from twinnet.tracking import __main__ as tracking

BLOCK = re.compile(r"^`(\S+)`\n\n```(?:yaml|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TRAIN = """
import json, sys
from pathlib import Path
from twinnet.core import config
from twinnet.data.download.download import download_dataset
from twinnet.data.preprocess import preprocess_dataset
from twinnet.training.experiment import train
root = Path.cwd()
suite = config.compose(root, "config")
report = {"experiments": list(suite.experiments)}
for name in {"flowers", "digits"} & set(suite.datasets):
    download_dataset(config.dataset(suite.datasets[name]), root)
    preprocess_dataset(config.dataset(suite.datasets[name]), root)
for line in sys.argv[1:]:
    experiment = config.experiment(config.compose(root, "train", line.split()))
    report[line] = train(experiment, root / "runs" / str(len(report)), root=root).metrics
print(json.dumps(report))
"""


def follow_and_train(house: Path, *overrides: str, **variables: str) -> list[dict]:
    """Return the suite's experiments and the metrics of a training for each line of overrides.

    They run in a process with the sources of `house`.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINNET_")}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *overrides],
        cwd=house, env=environment | {"PYTHONPATH": str(house / "src"), **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    return [report["experiments"], *(report[line] for line in overrides)]


# --------------------------------------------------------------------------------------- mathematics


def test_functions_of_the_mathematics_are_in_the_linked_files(root: Path) -> None:
    page = (root / "docs/mathematics.md").read_text()
    links = re.findall(r"\[`(\w+)`\]\(\.\./(src/[\w/]+\.py)\)", page)
    assert len(links) > 25
    for name, file in links:
        defined = {n.name for n in ast.walk(ast.parse((root / file).read_text())) if isinstance(n, ast.FunctionDef)}
        assert name in defined, f"{name} in {file}"


def test_mathematics_has_every_formula_of_the_engine(root: Path) -> None:
    page = (root / "docs/mathematics.md").read_text()
    scratch = root / "src/twinnet/engines/scratch"
    for module in ("layers", "convolution", "activations", "losses", "optimizers"):
        for node in ast.parse((scratch / f"{module}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                named = f"[`{node.name}`]" in page
                assert named or node.name in HELPERS, f"{module}.{node.name}"


HELPERS = {  # no formula: they rearrange, choose or count
    "split_activations", "activate_fast", "activate_forward", "activate_backward", "flatten_forward",
    "flatten_backward", "target_matrix", "metric", "init_state", "evaluated_weights",
}  # fmt: skip


# ----------------------------------------------------------------------------------------- one sample


def test_page_of_one_sample_is_what_the_command_prints(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (root / "docs/one_sample.md").read_text()
    command = re.search(r"^python -m twinnet\.walkthrough (.*)$", page, re.MULTILINE)
    assert command
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["walkthrough", *shlex.split(command[1])])
    walkthrough.main()
    printed = page.split("<!-- printed -->")[1].strip().removeprefix("```\n").removesuffix("```")
    assert capsys.readouterr().out.rstrip() == printed.rstrip()


@pytest.mark.parametrize("optimizer", ["gradient_descent", "adam", "nesterov"])
def test_walkthrough_equals_a_step_of_training(compose: Callable[..., Experiment], optimizer: str) -> None:
    experiment = compose("nba_scratch", f"optimizer={optimizer}", "model.hidden_units=[4,3]", "model.activation=tanh")
    walked = walkthrough.take_step(experiment, np.array([3.4, 3.6]), 0)

    network = build_network(experiment)
    weights = step.expand_weights(
        network.layers, to_engine_layout(network.initial_weights(experiment.model.init, experiment.seed, "float64"))
    )
    recipe = step.build_step_spec(
        network, walkthrough.rules.loss(experiment), experiment.data.task, experiment.optimizer, 1
    )
    A, Y = step.inputs(recipe, np.array([[3.4, 3.6]]), np.array([0]), np)
    state = step.optimizers.init_state(experiment.optimizer, weights)
    rate = np.asarray(experiment.optimizer.learning_rate)
    updated, _, loss, _ = step.step(recipe, weights, state, rate, A, Y, {}, np)

    assert walked.loss == loss
    dense = [layer for layer in updated if layer]
    for layer, expected in zip(walked.layers, dense, strict=True):
        np.testing.assert_array_equal(layer.W_after, expected["W"])
        np.testing.assert_array_equal(layer.b_after, expected["b"])
    assert walked.loss_after < walked.loss


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "1", "--label", "guard"], "expected 2 (apg, rpg); received 1"),
        (["--features", "1", "2", "--label", "centre"], "expected one of guard, forward; received 'centre'"),
        (["--features", "1", "nan", "--label", "guard"], "expected finite numbers; received 1, nan, 0"),
        (["experiment=nba_points", "--features", *"12345678", "--label", "inf"], "expected finite numbers; received"),
        (["--features", "1", "2"], "--features, --label: expected both or neither"),
        (["experiment=fashion_cnn"], "expected a table and dense layers"),
        (["optimizer.schedule.warmup=0.1"], "received data.kind=table model.kind=mlp optimizer.schedule.warmup=0.1;"),
        (["experiment=nba_points", "--features", "1", "2", "3", "--label", "abc"], "--label: expected a number; rec"),
    ],
)
def test_walkthrough_of_bad_input_is_one_line(
    root: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["walkthrough", *arguments])
    with pytest.raises(SystemExit) as ended:
        walkthrough.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


# -------------------------------------------------------------------------------------------- recipes


@pytest.fixture
def recipes(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Heading -> (file, text) of each block of docs/own_project.md under the name of a file."""
    page = (root / "docs/own_project.md").read_text()
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")}
    return {heading: BLOCK.findall(part) for heading, part in sections.items() if BLOCK.search(part)}


@pytest.fixture
def house(root: Path, tiny_project: Path) -> Path:
    """A small project with the sources and the configuration, free to be changed."""
    shutil.rmtree(tiny_project / "conf")
    for folder in ("src", "conf"):
        shutil.copytree(root / folder, tiny_project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tiny_project


def follow(house: Path, blocks: list[tuple[str, str]], sums: Mapping[str, str] | None = None) -> None:
    """Make the files that do not exist, and append to those that do; `sums` are hashes by file name."""
    for file, text in blocks:
        for name, digest in (sums or {}).items():
            text = text.replace(f"{name}: SHA-256", f"{name}: {digest}")
        with (house / file).open("a") as opened:
            opened.write(f"\n\n{text}" if opened.tell() else text)


def test_recipes_have_fewer_than_ten_lines(recipes: dict[str, list[tuple[str, str]]]) -> None:
    """Nine at most, one of which stands in conf/config.yaml; a table says its columns, too."""
    expected = {"A table", "A set of images", "A model", "An optimizer", "An experiment", "A project of your own"}
    assert set(recipes) == expected
    for heading, blocks in recipes.items():
        assert sum(len(text.splitlines()) for _, text in blocks) < (12 if heading == "A table" else 9), heading


def test_recipes_add_a_model_an_optimizer_and_an_experiment(
    house: Path, recipes: dict[str, list[tuple[str, str]]]
) -> None:
    follow(house, [block for name in ("A model", "An optimizer", "An experiment") for block in recipes[name]])
    suite_has(house, "- experiment@experiments.nba_adam: nba_adam")
    names, pyramid, sign_descent, nba_adam = follow_and_train(
        house,
        "engine=scratch_numpy model=pyramid model.widest=8 epochs=3",
        "engine=scratch_numpy optimizer=sign_descent epochs=1 model.init=he_normal",
        "engine=scratch_numpy experiment=nba_adam epochs=4",
    )
    assert "nba_adam" in names
    assert pyramid["parameters"] == (2 * 8 + 8) + (8 * 4 + 4) + (4 + 1)
    assert sign_descent["epochs"] == 1
    with np.load(house / "runs/2/model.npz") as saved:  # biases start at 0 and take one step of the learning rate
        np.testing.assert_allclose(np.abs(saved["0/b"]), 0.001, rtol=1e-6)
    assert nba_adam["epochs"] == 4


def test_recipes_add_a_table_and_a_set_of_images(
    root: Path, house: Path, recipes: dict[str, list[tuple[str, str]]]
) -> None:
    sums = {"flowers.csv": write_flowers(house / "mirror"), "digits.npz": write_digits(house / "mirror")}
    for name in ("A table", "A set of images"):
        follow(house, recipes[name], sums)
    for line in re.findall(r"`(- dataset@\S+ \S+)`", (root / "docs/own_project.md").read_text().split("## A model")[0]):
        suite_has(house, line)
    _, table, images = follow_and_train(
        house,
        "experiment=nba_scratch data=flowers engine=scratch_numpy epochs=2",
        "experiment=fashion_dense data=digits engine=scratch_numpy epochs=1 profile.samples=64",
        TWINNET_MIRROR=str(house / "mirror"),
    )
    assert table["data_source"] == images["data_source"] == "mirror"


@pytest.mark.slow
def test_project_on_its_own_table_follows_the_page(
    root: Path, house: Path, recipes: dict[str, list[tuple[str, str]]]
) -> None:
    """Without the data sets and experiments of this project: `dvc repro` makes the rest."""
    page = (root / "docs/own_project.md").read_text().partition("## A project of your own")[2]
    for name in (".dvc", "pipelines", "dvc.yaml", "pyproject.toml"):
        source, copied = root / name, house / name
        if source.is_dir():
            shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
        else:
            shutil.copy(source, copied)
    follow(
        house, recipes["A table"] + recipes["A project of your own"], {"flowers.csv": write_flowers(house / "mirror")}
    )
    run = partial(subprocess.run, cwd=house, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    run(["git", "init", "-q"])
    run(["git", "add", "-A"])
    run(["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "as it was"])
    for command in re.findall(r"^git rm .*$", page, re.MULTILINE):
        run(["bash", "-c", command])
    keep_entries(house / "conf/config.yaml", *re.findall(r"`- ((?:dataset|experiment)@\S+ \S+)`", page))
    single = house / "conf/train.yaml"
    (default,) = re.findall(r"`(- experiment: \S+)`", page)
    single.write_text(re.sub("- experiment: .*", default, single.read_text()))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TWINNET_", "DVC_"))} | {
        "PYTHONPATH": str(house / "src"), "TWINNET_MIRROR": str(house / "mirror"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    for arguments in (["python", "-m", "pipelines.params", "write", "tracking.enabled=false"], ["dvc", "repro", "-q"]):
        done = run(arguments, env=environment, check=False)
        assert done.returncode == 0, done.stdout
    assert json.loads((house / "reports/metrics/flowers_mlp.json").read_text())["accuracy"] > 0.9
    assert "flowers_mlp" in (house / "reports/comparison/comparison.md").read_text()
    assert "| tulip |" in (house / "reports/data/flowers/card.md").read_text()
    assert not [path for path in house.rglob("*.yaml") if "nba" in path.name or "fashion" in path.name]


def write_flowers(mirror: Path) -> str:
    """Write a separable table to the mirror; return its hash."""
    random = np.random.default_rng(0)
    kind = np.arange(120) % 2
    columns = {"length": kind + random.normal(0, 0.1, 120), "width": random.normal(3, 1, 120)}
    table = pd.DataFrame(columns | {"species": np.array(["rose", "tulip"])[kind]})
    (mirror / "flowers").mkdir(parents=True)
    table.round(3).to_csv(mirror / "flowers/flowers.csv", index=False)
    return hashlib.sha256((mirror / "flowers/flowers.csv").read_bytes()).hexdigest()


def write_digits(mirror: Path) -> str:
    """Write random images to the mirror; return their hash."""
    (mirror / "digits").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (6000, 28, 28), dtype=np.uint8)
    np.savez(mirror / "digits/digits.npz", X=images, y=(np.arange(6000) % 10).astype(np.uint8))
    return hashlib.sha256((mirror / "digits/digits.npz").read_bytes()).hexdigest()


def suite_has(house: Path, line: str) -> None:
    suite = house / "conf/config.yaml"
    suite.write_text(suite.read_text().replace("  - _self_", f"  {line}\n  - _self_"))


# --------------------------------------------------------------------------------- pages made from code


def test_diagram_of_contributing_is_made_from_the_imports(root: Path) -> None:
    page = (root / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"```mermaid\n(.*?)\n```", page, re.DOTALL)
    assert block == architecture.diagram(), "replace the block by the output of `python -m tests.architecture`"


def test_table_of_contributing_has_every_room(root: Path) -> None:
    rows = (root / "CONTRIBUTING.md").read_text().split("| room | holds |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) <= 12
    named = [name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row.split("|")[1])]
    files = (root / "src/twinnet").iterdir()
    modules = {path.stem for path in files if path.suffix in ("", ".py") and not path.name.startswith("__")}
    assert sorted(named) == sorted(modules)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", ["train", "search", "compare", "walkthrough"])
def test_help_names_the_page_of_the_configuration(
    root: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with suppress(SystemExit):
        runpy.run_module(f"twinnet.{command}", run_name="__main__")
    assert "docs/configuration.md" in " ".join(capsys.readouterr().out.split())


def test_help_of_the_ui_starts_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    tracking.main(["ui", "--help"])
    assert "promote fashion_mnist" in capsys.readouterr().out


def test_page_of_the_configuration_is_made_from_the_schema(root: Path) -> None:
    page = (root / "docs/configuration.md").read_text()
    assert page == configuration_page.page(), "run `python -m tests.configuration_page > docs/configuration.md`"


# ---------------------------------------------------------------------------------------------- hooks


def test_hooks_are_valid_and_have_no_address(root: Path) -> None:
    file = root / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", str(file)], check=True, cwd=root)
    hooks = [hook for repo in yaml.safe_load(file.read_text())["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in yaml.safe_load(file.read_text())["repos"]} == {"local"}
    assert {hook["id"] for hook in hooks} == {"ruff-format", "ruff-check", "params"}
    for hook in hooks:
        assert hook["entry"].startswith(".venv/bin/")


def test_workflow_of_github_calls_targets_of_make(root: Path) -> None:
    workflow = yaml.safe_load((root / ".github/workflows/test.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert commands == ["make lint", "make test"]
    for command in commands:
        assert f"\n{command.split()[1]}:" in (root / "Makefile").read_text()


def test_runtime_environment_has_what_the_code_imports(root: Path) -> None:
    """`make repro` installs requirements.lock alone, and what an extra brings is asked for before it is imported."""
    trees = [ast.parse(file.read_text()) for file in (root / "src").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    own, extras = {"twinnet", "hydra_plugins"}, {"boto3", "botocore", "optuna", "ray", "submitit"}
    imported = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - own - extras
    locked = set(re.findall(r"^([\w.-]+)==", (root / "requirements.lock").read_text(), re.MULTILINE))
    packages = packages_distributions()
    missing = {name for name in imported if not {canonicalize_name(found) for found in packages[name]} & locked}
    assert not missing


def test_image_has_every_file_of_git(root: Path) -> None:
    """.dockerignore leaves out no file that git keeps; what the Dockerfile copies and installs exists."""
    patterns = [
        re.sub(r"^(!?)(?=\w|\.|\*)", r"\1/", line) for line in (root / ".dockerignore").read_text().splitlines()
    ]
    ignored = pathspec.GitIgnoreSpec.from_lines(patterns)  # here a pattern without a slash is one for any folder
    kept = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    assert list(ignored.match_files(kept)) == []
    assert ignored.match_file("data/raw/nba/table.csv")
    assert ignored.match_file("runs/nba_scratch/model.npz")
    assert ignored.match_file("src/twinnet/__pycache__/train.pyc")
    steps = (root / "Dockerfile").read_text()
    copied = {name for words in re.findall(r"^COPY (.*)$", steps, re.MULTILINE) for name in words.split()[1:-1]}
    assert all((root / name).exists() for name in copied)
    assert "src/twinnet/__init__.py" in copied, "else hatchling installs a package that is not found"
    assert "RUN make .venv/runtime" in steps
    assert "$(VENV)/runtime:" in (root / "Makefile").read_text()
    extras = set(re.findall(r"EXTRAS=\[(\w+)\]", steps))
    assert extras
    assert extras <= set(tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_hooks_refuse_what_is_wrong_and_pass_what_is_right(root: Path, tmp_path: Path) -> None:
    """In a repository of their own, so that neither the state of this one nor that of its index decides."""
    for name in (".pre-commit-config.yaml", "pyproject.toml", "params.yaml"):
        shutil.copy(root / name, tmp_path)
    for name in ("conf", "pipelines", "src"):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "wrong.py").write_text("import os\nx = 'one'\n")
    composed = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(composed.replace("epochs: 100000", "epochs: 99999"))

    def run(*command: str) -> str:
        environment = os.environ | {"PRE_COMMIT_HOME": str(tmp_path / ".home"), "PYTHONPATH": str(root / "src")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    run("git", "init", "-q")
    run("git", "add", "wrong.py", "params.yaml")
    hooks = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    output = run(*hooks)
    assert output.count("Failed") == 3, output
    assert "run `make params`" in output
    (tmp_path / "params.yaml").write_text(composed)
    assert run(*hooks).count("Passed") == 3, "ruff has mended wrong.py"


def test_templates_of_dvc_plots_are_complete(root: Path) -> None:
    outputs = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["compare"]["plots"]
    plots = [settings for plot in outputs if isinstance(plot, dict) for settings in plot.values()]
    templates = {settings["template"] for settings in plots}
    assert templates == {file.stem for file in (root / ".dvc/plots").glob("*.json")}
    for name in templates:
        template = json.dumps(json.loads((root / f".dvc/plots/{name}.json").read_text()))
        for anchor in ("DATA", "TITLE", "X", "Y", "X_LABEL", "Y_LABEL"):
            assert f"<DVC_METRIC_{anchor}>" in template
    page = HTML((root / ".dvc/plots/page.html").read_text()).with_scripts("SCRIPTS").with_element("PLOT").embed()
    assert "SCRIPTS" in page
    assert "PLOT" in page
    assert "{" + "plot_divs" + "}" not in page
