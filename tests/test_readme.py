"""README.md says the same in both languages, and each of its commands is run by a test."""

from collections import Counter
from functools import reduce
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from benchmarks.__main__ import MODULES
from tests.readme import commands, lines, ordered, sections
from twinnet.core import config

ENGLISH, CHINESE = "README.md", "README.zh-TW.md"

# Command -> the test that runs it, or the program that it starts, with these settings or smaller ones.
PIPELINE = "tests/pipelines/test_pipeline.py"
README = "tests/pipelines/test_readme_commands.py"
DOCS = "tests/test_docs.py"
RECIPES = f"{DOCS}::test_a_model_an_optimizer_and_an_experiment_are_added_as_described"
OVERRIDES = "tests/test_readme.py::test_the_overrides_of_dvc_are_those_of_conf"
SERVED = "tests/test_predict.py::test_a_served_model_answers_a_request_made_of_pictures"
TRAIN = "python -m twinnet.train"
RUN_BY = {
    "make repro": f"{PIPELINE}::test_a_second_repro_has_nothing_to_train",
    'make repro S="datasets.nba.source=real"': (
        "tests/data/test_download.py::test_the_stand_in_is_refused_where_real_data_is_wanted"
    ),
    "TWINNET_MIRROR=/path/to/mirror make repro": "tests/data/test_reading.py::test_from_a_mirror_to_splits",
    "make test": ".ci/run::make test",
    "make exhaustive": "Makefile::exhaustive: ",
    "make params": f"{PIPELINE}::test_one_learning_rate_retrains_one_experiment",
    "make smoke": "tests/pipelines/conftest.py::project",
    "make faults": "tests/data/test_faults.py::test_faults_are_refused_and_oddities_accepted",
    "make bench": "tests/test_benchmarks_interleaved.py::test_ratio_is_peer_over_own_and_an_absent_peer_is_told",
    "make notebooks": f"{README}::test_notebooks_become_pages_with_their_outputs",
    "make ui": "tests/tracking/conftest.py::server",
    "make server": "tests/tracking/test_postgres.py::test_a_training_tracked_on_postgresql",
    "dvc repro": f"{PIPELINE}::test_a_second_repro_has_nothing_to_train",
    "dvc repro train@fashion_cnn": f"{README}::test_stages_are_asked_for_by_name",
    "dvc repro -f download@nba": f"{README}::test_stages_are_asked_for_by_name",
    "dvc exp run -S experiments.nba_scratch.optimizer.learning_rate=0.01": (
        f"{PIPELINE}::test_dvc_exp_run_retrains_the_experiment_it_changes"
    ),
    "dvc exp run -S datasets.nba.season=2018": OVERRIDES,
    "dvc exp run -S datasets.nba.seasons=[2017,2018,2019]": OVERRIDES,
    "dvc exp run -S datasets.nba.source=real": OVERRIDES,
    "dvc exp show --only-changed --drop 'runs|params.yaml'": (
        f"{PIPELINE}::test_dvc_exp_run_retrains_the_experiment_it_changes"
    ),
    "dvc metrics diff": f"{PIPELINE}::test_dvc_exp_run_retrains_the_experiment_it_changes",
    "dvc plots diff": f"{PIPELINE}::test_dvc_exp_run_retrains_the_experiment_it_changes",
    "dvc plots show": f"{README}::test_the_plots_of_the_suite_are_one_page",
    "python -m pipelines.publish": (
        "tests/pipelines/test_notebooks_on_runs.py::test_compare_runs_reads_the_store_and_sweeps"
    ),
    "python -m twinnet.compare": "tests/compare/test_compare.py::test_command_compares_the_runs_in_runs",
    "python -m twinnet.walkthrough": f"{DOCS}::test_the_page_of_one_sample_is_what_the_command_prints",
    "python -m twinnet.predict runs/fashion_cnn/model.keras image.png": (
        "tests/predict/test_predict.py::test_test_image_gives_the_prediction_of_the_run"
    ),
    "python -m twinnet.predict runs/fashion_cnn image.png --request > request.json": SERVED,
    "mlflow models serve -m models:/MODEL_ID --env-manager local -p 5001": SERVED,
    'curl -H "Content-Type: application/json" -d @request.json http://127.0.0.1:5001/invocations': SERVED,
    f"{TRAIN} experiment=nba_scratch epochs=2000 optimizer.learning_rate=0.1": (
        f"{README}::test_one_experiment_is_trained_without_dvc"
    ),
    f"{TRAIN} -m experiment=nba_scratch epochs=2000 optimizer.learning_rate=0.1 seed=1,2,3": (
        "tests/pipelines/test_notebooks_on_runs.py::test_compare_runs_reads_the_store_and_sweeps"
    ),
    f"{TRAIN} -m experiment=nba_scratch epochs=2000 seed=1,2,3 optimizer.learning_rate=0.1,0.01 "
    "hydra/launcher=joblib": ("tests/sweeps/test_sweep.py::test_a_sweep_that_is_killed_goes_on_where_it_was"),
    f"{TRAIN} -m experiment=nba_scratch engine.batch_configs=true seed=range(0,64)": (
        "tests/sweeps/test_sweeps_together.py::test_jobs_of_one_shape_are_trained_together_and_are_what_they_would_have_been"
    ),
    "python -m twinnet.search search=nba epochs=2000 search.trials=20 search.processes=2": (
        "tests/sweeps/test_searching.py::test_a_search_that_is_killed_goes_on_and_processes_share_it"
    ),
    f"{TRAIN} -m experiment=fashion_dense_best seed=0,1,2": "tests/test_recipes.py::test_every_recipe_trains",
    f"{TRAIN} -m experiment=fashion_dense data.train_fraction=0.01,0.1,1.0 seed=1,2,3 objective=valid/accuracy": (
        "tests/test_recipes.py::test_accuracy_over_the_amount_of_data_is_a_sweep"
    ),
    "python -m benchmarks": "tests/test_benchmarks_interleaved.py::test_a_row_is_asked_for_by_name",
    "python -m benchmarks tiny": "tests/test_benchmarks_interleaved.py::test_a_row_is_asked_for_by_name",
    f"{TRAIN} experiment=fashion_cnn data=mnist": (
        "tests/config/test_composition.py::test_mnist_is_trained_by_naming_it"
    ),
    f"{TRAIN} experiment=nba_keras loss=categorical_crossentropy": (
        f"{README}::test_a_wrong_combination_is_the_line_that_is_shown"
    ),
    f"{TRAIN} experiment=fashion_dense data=digits": f"{DOCS}::test_a_data_set_is_added_as_described",
    f"{TRAIN} model=pyramid model.widest=8": RECIPES,
    f"{TRAIN} optimizer=sign_descent": RECIPES,
    f"{TRAIN} experiment=nba_adam": RECIPES,
}
# They change the machine rather than the project: no test does.
BY_HAND = {
    "apt-get install postgresql",
    "runuser -u postgres -- createuser --createdb NAME",
    "createdb mlflow",
    "source .venv/bin/activate",
    "uv pip install -e .[gpu]",
}


@pytest.fixture(scope="module")
def pages(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text() for name in (ENGLISH, CHINESE)}


def test_both_languages_have_the_same_headings_commands_and_tables(pages: dict[str, str]) -> None:
    """The first line that differs is named."""
    for ours, theirs in zip_longest(*(ordered(page) for page in pages.values())):
        same = ours and theirs and ours[1] == theirs[1]
        assert same, f"{_told(ENGLISH, ours)}\n{_told(CHINESE, theirs)}"


def test_both_languages_name_the_same_files_keys_and_numbers(pages: dict[str, str]) -> None:
    """Section by section; what one of them lacks is named with the line of the other."""
    told = [sections(page) for page in pages.values()]
    assert len(told[0]) == len(told[1])
    missing = []
    for section in zip(*told, strict=True):
        for name, mine, other in ((ENGLISH, *section), (CHINESE, *section[::-1])):
            lacking = Counter(fact for _, fact in mine) - Counter(fact for _, fact in other)
            missing += [f"only {name}:{line.number} says {fact!r}" for line, fact in mine if fact in lacking]
    assert not missing, "\n".join(missing)


def _told(name: str, found: tuple | None) -> str:
    return f"{name}:{found[0].number}: {found[0].text}" if found else f"{name} ends"


def test_each_command_is_run_by_a_test(root: Path, pages: dict[str, str]) -> None:
    told = {command: line for command, line in commands(pages[ENGLISH]).items() if command not in BY_HAND}
    missing = [f"README.md:{number}: `{command}`" for command, number in told.items() if command not in RUN_BY]
    assert not missing, f"name the test that runs it in RUN_BY: {missing}"
    assert set(RUN_BY) <= set(told), "RUN_BY names commands that README.md no longer has"
    for command, place in RUN_BY.items():
        file, _, name = place.partition("::")
        assert name in (root / file).read_text(), f"{command}: {place}"


def test_the_overrides_of_dvc_are_those_of_conf(root: Path, pages: dict[str, str]) -> None:
    """`-S` takes Hydra's grammar; `dvc exp run` itself is run by the tests of the pipeline."""
    told = [command.split(" -S ")[1] for command in commands(pages[ENGLISH]) if command.startswith("dvc exp run -S")]
    suite = yaml.safe_load(OmegaConf.to_yaml(config.compose(root, "config", told)))
    for override in told:
        keys, _, value = override.partition("=")
        assert reduce(dict.__getitem__, keys.split("."), suite) == yaml.safe_load(value), override


def test_each_make_target_exists(root: Path, pages: dict[str, str]) -> None:
    makefile = (root / "Makefile").read_text()
    for command in commands(pages[ENGLISH]):
        if "make " in command:
            target = command.split("make ")[1].split()[0]
            assert f"\n{target}: " in makefile, command


def test_the_example_in_python_runs(pages: dict[str, str]) -> None:
    python = [line.text for line in lines(pages[ENGLISH]) if line.kind == "python"]
    block = "\n".join(python[python.index("from twinnet import DeepLearning") :])
    rng = np.random.default_rng(0)
    X = rng.random((20, 2))
    names = {"X": X, "y": (X[:, 0] > X[:, 1]).astype(int)}
    exec(block.replace("random_state=0", 'random_state=0, array="numpy"').replace("100_000", "100"), names)
    assert len(names["network"].loss_history_) == 100  # type: ignore[attr-defined]


def test_experiments_and_files_that_are_named_exist(root: Path, pages: dict[str, str]) -> None:
    named = {path.stem for path in (root / "conf/experiment").glob("*.yaml")}
    named |= {row.name for module in MODULES for row in import_module(module).ROWS}
    rows = {line.text.split("`")[1] for line in lines(pages[ENGLISH]) if line.text.startswith("| `")}
    assert rows <= named
    for section in sections(pages[ENGLISH]):
        for line, fact in section:
            if fact.startswith(("docs/", "src/", "conf/", "benchmarks/")) and not set(fact) & set("*<"):
                added = fact.rpartition("/")[2].split(".")[0] in ("digits", "pyramid", "sign_descent", "nba_adam")
                assert added or (root / fact).exists(), f"README.md:{line.number}: {fact}"
    for page in (root / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in pages[ENGLISH], f"README.md has no link to {page.name}"
    for image in (root / "docs/images").iterdir():
        assert image.stat().st_size <= 200 * 1024, image
        assert f"docs/images/{image.name}" in pages[ENGLISH]
