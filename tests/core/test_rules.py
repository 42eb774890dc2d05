"""A value that cannot be trained stops before any data is read, in one line that says what is allowed."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from tests.core.faults import Case, cases, run_all
from tests.faults import table
from twinnet.core import config, rules, schema, search_schema
from twinnet.core.errors import ConfigError
from twinnet.core.schema import Experiment, Loss


def test_faults_of_configurations_are_many_and_different() -> None:
    tried = [case.tried for case in cases()]
    assert len(set(tried)) == len(tried) >= 300


def test_wrong_configurations_get_one_line(tmp_path: Path) -> None:
    """A fifth of those that Hydra composes one by one, all of those that only set values; `make faults` tries all."""
    some = [case for number, case in enumerate(cases()) if number % 5 == 0 or case.tried.startswith("-m ")]
    outcomes = run_all(some, tmp_path)
    assert {outcome.tried: outcome.mistakes for outcome in outcomes if outcome.mistakes} == {}


def test_table_of_faults_has_a_line_for_each(tmp_path: Path) -> None:
    def crash(folder: Path) -> None:
        raise KeyError("x")

    outcomes = run_all([Case("a", (), crash), Case("b", ("x",), lambda folder: None)], tmp_path)
    assert [outcome.mistakes for outcome in outcomes] == [("a traceback", "refused"), ("accepted",)]
    lines = table(outcomes, "configurations").splitlines()
    assert len(lines) == 4
    assert lines[-1] == "2 configurations, 2 answered wrongly"


def test_every_number_and_list_of_the_schema_has_a_rule() -> None:
    """Whether it is in the table: a field without a rule is trained whatever its value."""
    for kind in filter(is_dataclass, [*vars(schema).values(), *vars(search_schema).values()]):
        assert isinstance(kind, type)
        if kind is search_schema.Dimension:  # its numbers have rules together alone: `search_schema.check`
            continue
        hints = get_type_hints(kind)
        ruled = {name for base in kind.__mro__ for name in rules.RULES.get(base, ())}
        for field in fields(kind):
            hint = str(hints[field.name])
            if "int" in hint.replace("Tracking", "") or "float" in hint or "list" in hint:
                assert field.name in ruled or hint.startswith("dict"), f"{kind.__name__}.{field.name}"
    for kind, table_of_kind in rules.RULES.items():
        assert set(table_of_kind) <= {field.name for field in fields(kind)}, kind


def test_memory_of_a_network_is_said(compose: Callable[..., Experiment]) -> None:
    with pytest.raises(ConfigError, match=r"received 4,000,000,001 parameters, which need \d+ GB"):
        compose("nba_scratch", "model.hidden_units=[1000000000]")


def test_batch_is_no_larger_than_the_profile_allows(compose: Callable[..., Experiment]) -> None:
    assert compose("fashion_cnn", "batch_size=1000000000", "profile=smoke").limits.samples
    with pytest.raises(ConfigError, match="and a batch of 1000000000"):
        compose("fashion_cnn", "batch_size=1000000000")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("search.seed=-1", "search.seed: expected 0 to 4294967295; received -1"),
        ("search.pruned_after=7", "search.pruned_after: expected 0 to 1, a fraction of the epochs; received 7"),
        ("search.processes=0", "search.processes: expected 1 to 1024; received 0"),
        ("search.study=''", "search.study: expected a text; received ''"),
    ],
)
def test_value_of_a_search_is_refused(words: str, message: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        config.compose(root, "search", [words])


def test_step_of_whole_numbers_is_whole() -> None:
    dimension = search_schema.Dimension(search_schema.DimensionKind.integer, low=1, high=3, step=0.5)
    with pytest.raises(ConfigError, match=r"search.space.seed: expected whole numbers; received .*, step=0\.5"):
        search_schema.check(search_schema.Search("own", space={"seed": dimension}))


def test_the_pair_of_the_chapter_has_to_be_asked_for_by_name(compose: Callable[..., Experiment]) -> None:
    book = compose("nba_keras_book")
    assert rules.loss(book) is Loss.categorical_crossentropy
    assert book.allow_degenerate
    assert "nothing is learned" in (rules.degenerate(book) or "")
    assert rules.degenerate(compose("nba_keras")) is None


def test_params_yaml_with_an_unknown_kind_names_the_kinds(compose: Callable[..., Experiment]) -> None:
    node = config.plain(compose("nba_scratch"))
    node["optimizer"]["kind"] = "lion"
    with pytest.raises(ConfigError, match=r"optimizer\.kind: expected one of gradient_descent, .*'lion'"):
        config.experiment(node)


def test_a_subclass_with_a_kind_is_a_member_of_its_group() -> None:
    assert set(config.kinds("optimizer")) >= {"gradient_descent", "adam", "adamw"}
    assert config.kinds("model")["mlp"] is schema.MLP
    assert all(kind for group in config.BASES for kind in config.kinds(group))
