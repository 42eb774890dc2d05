"""The commands, links and examples of README.md and the other pages, in both languages."""

import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml
from dvc.cli import DvcParserError
from dvc.cli.parser import get_main_parser
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from benchmarks.__main__ import MODULES
from tests.readme import CODE, LINK, anchors, commands, lines, pages, skeleton, words
from twinnet.core import config
from twinnet.core.errors import ConfigError
from twinnet.sweeps.expand import Composer, parse

ADDED = re.compile(
    r"\b(flowers|flowers_mlp|digits|pyramid|sign_descent|nba_adam)\b"
)  # by the recipes that tests/test_docs.py follows
PLACES = ("docs/", "src/", "conf/", "benchmarks/", "pipelines/", "tests/", "notebooks/")


@pytest.fixture(scope="module")
def texts(root: Path) -> dict[str, str]:
    return pages(root)


@pytest.fixture(scope="module")
def given(texts: dict[str, str]) -> dict[str, str]:
    """Each command of the pages -> where it stands first."""
    found: dict[str, str] = {}
    for name, text in texts.items():
        for command, number in commands(text).items():
            found.setdefault(command, f"{name}:{number}: {command}")
    return found


@pytest.fixture(scope="module")
def refused(texts: dict[str, str]) -> dict[str, str]:
    """Each command that is shown with an error -> the line of the error."""
    found = dict(re.findall(r"^\$ (.+)\n(error: .+)$", "\n".join(texts.values()), re.MULTILINE))
    assert found
    return found


def test_both_languages_have_the_same_commands(texts: dict[str, str]) -> None:
    """Headings and blocks in their order; the first line that differs is named."""
    translated = [name for name in texts if name.endswith(".zh-TW.md")]
    assert translated
    for chinese in translated:
        english = chinese.replace(".zh-TW", "")
        for ours, theirs in zip_longest(skeleton(texts[english]), skeleton(texts[chinese]), fillvalue=(0, "")):
            assert ours[1] == theirs[1], f"{english}:{ours[0]}: {ours[1]}\n{chinese}:{theirs[0]}: {theirs[1]}"
        assert set(commands(texts[english])) == set(commands(texts[chinese]))


def test_each_make_target_exists(root: Path, given: dict[str, str]) -> None:
    makefile = (root / "Makefile").read_text().replace("$(VENV)", ".venv")
    targets = re.findall(r"^([a-z./]+):", makefile, re.MULTILINE)
    for command, place in given.items():
        program, *arguments = words(command)
        if program == "make":
            assert {word for word in arguments if "=" not in word} <= set(targets), place


def test_each_dvc_command_is_one_of_dvc(root: Path, given: dict[str, str]) -> None:
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    suite = yaml.safe_load((root / "params.yaml").read_text())
    for place, parsed in dvc_commands(given):
        targets = getattr(parsed, "targets", None)
        for target in [targets] if isinstance(targets, str) else targets or ():
            stage, _, key = target.partition("@")
            assert stage in stages or target in stages["compare"]["outs"] + stages["compare"]["metrics"], place
            assert not key or key in {**suite["datasets"], **suite["experiments"]}, place


def test_overrides_of_the_suite_compose(given: dict[str, str], compose_suite: Callable[..., DictConfig]) -> None:
    """Those of `make … S=` and of `dvc exp run -S`: their keys exist, their values have the right types."""
    overrides = [o for _, parsed in dvc_commands(given) for o in getattr(parsed, "set_param", None) or ()]
    for command in given:
        if words(command)[0] == "make":
            overrides += [o for word in words(command) if word.startswith("S=") for o in words(word.removeprefix("S="))]
    assert overrides
    single = [
        BasicSweeper.split_arguments(OverridesParser.create().parse_overrides([o]), None)[0][0] for o in overrides
    ]
    compose_suite(*(override for job in single for override in job))


def dvc_commands(given: dict[str, str]) -> Iterator[tuple[str, Namespace]]:
    for command, place in given.items():
        if words(command)[0] == "dvc":
            try:
                yield place, get_main_parser().parse_args(words(command)[1:])
            except DvcParserError as error:
                raise AssertionError(place) from error


def test_each_module_exists_and_takes_its_options(root: Path, given: dict[str, str]) -> None:
    rows = {row.name for module in MODULES for row in import_module(module).ROWS}
    for command, place in given.items():
        program, *arguments = words(command)
        if program != "python":
            continue
        module, *arguments = arguments[1:]
        spec = find_spec(module)
        assert spec, place
        if spec.submodule_search_locations:
            spec = find_spec(f"{module}.__main__")
            assert spec, place
        if module == "benchmarks":
            assert set(arguments) <= rows, place
        elif module not in ("twinnet.train", "twinnet.search"):  # Hydra's options, composed below
            options = {word for word in arguments if word.startswith("--")}
            assert options <= set(re.findall(r'"(--[\w-]+)"', Path(str(spec.origin)).read_text("utf-8"))), place


def test_overrides_of_training_and_search_compose(root: Path, given: dict[str, str], refused: dict[str, str]) -> None:
    """Of a sweep, its first and its last job."""
    composers = {f"twinnet.{name}": Composer(root, name) for name in ("train", "search")}
    for command, place in given.items():
        module, arguments = "".join(words(command)[2:3]), [word for word in words(command)[3:] if word != "…"]
        if module in composers and not ADDED.search(command) and command not in refused:
            overrides = get_args_parser().parse_args(arguments).overrides
            jobs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)[0]
            for job in {tuple(jobs[0]), tuple(jobs[-1])}:
                of_hydra = any(word.startswith("hydra.") for word in job)  # which a Composer leaves out
                try:
                    composed = config.compose(root, module[8:], job) if of_hydra else composers[module](parse(job))
                    config.experiment(composed, allow_batch=True)
                except ConfigError as error:
                    raise AssertionError(f"{place}: {error}") from error


def test_commands_shown_with_an_error_give_that_error(root: Path, refused: dict[str, str]) -> None:
    for command, line in refused.items():
        with pytest.raises(ConfigError, match=re.escape(line.removeprefix("error: ").removesuffix(" ..."))):
            config.experiment(config.compose(root, "train", words(command)[3:]))


def test_each_link_leads_to_a_file_and_a_heading(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        for line in lines(text):
            for target in [] if line.in_block else LINK.findall(line.text):
                if target.startswith(("http://", "https://")):
                    continue
                path, _, anchor = target.partition("#")
                file = (root / name).parent / path if path else root / name
                assert file.exists(), f"{name}:{line.number}: {target}"
                assert not anchor or anchor in anchors(file.read_text()), f"{name}:{line.number}: {target}"


def test_each_file_that_is_named_exists(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        for line in lines(text):
            for path in [] if line.in_block else CODE.findall(line.text):
                if path.startswith(PLACES) and not set(path) & set("*<{ ") and not ADDED.search(path):
                    assert (root / path).exists(), f"{name}:{line.number}: {path}"


def test_each_page_and_picture_is_linked_and_small(root: Path, texts: dict[str, str]) -> None:
    everything = "\n".join(texts.values())
    for page in (root / "docs").glob("*.md"):
        assert f"({page.name}" in everything or f"(docs/{page.name}" in everything, page
    for image in (root / "docs/images").iterdir():
        assert image.stat().st_size <= 200 * 1024, image
        assert f"images/{image.name})" in everything, image


def test_each_experiment_in_a_table_exists(root: Path, texts: dict[str, str]) -> None:
    experiments = {path.stem for path in (root / "conf/experiment").glob("*.yaml")}
    for name, text in texts.items():
        for line in lines(text):
            if line.kind == "table":
                named = re.findall(r"`((?:nba|fashion)_\w+)`", line.text.split("|")[1])
                assert set(named) <= experiments | {"fashion_mnist"}, f"{name}:{line.number}: {line.text}"


def test_the_readme_fits_two_hundred_lines(texts: dict[str, str]) -> None:
    for name in ("README.md", "README.zh-TW.md"):
        assert len(texts[name].splitlines()) <= 200, name


def test_ranges_of_a_sweep_are_quoted(texts: dict[str, str]) -> None:
    """A bare parenthesis is a syntax error in a shell."""
    for name, text in texts.items():
        for command, number in commands(text).items():
            bare = re.sub(r'"[^"]*"|' + r"'[^']*'", "", command)
            assert "(" not in bare, f"{name}:{number}: {command}"
