"""A value that cannot be trained stops before any data is loaded, in one line that says what is allowed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from twinnet.core import config, rules
from twinnet.core.errors import ConfigError
from twinnet.core.schema import Experiment, Loss


@pytest.mark.parametrize(
    ("experiment", "override", "told"),
    [
        ("nba_scratch", "epoch=1", ["epoch", "SingleRun"]),
        ("nba_scratch", "model.units=3", ["units", "MLP"]),
        ("nba_scratch", "epochs=many", ["epochs", "many", "Integer"]),
        ("nba_scratch", "model.activation=swish", ["swish", "sigmoid, relu, tanh"]),
        ("nba_scratch", "model=residual", ["model/residual", "mlp"]),
        ("nba_scratch", "experiment=nba", ["experiment/nba"]),
        ("nba_scratch", "optimizer=lion", ["optimizer/lion", "adam"]),
        ("nba_scratch", "epochs=0", ["epochs", "at least 1", "0"]),
        ("nba_scratch", "batch_size=0", ["batch_size", "at least 1", "0"]),
        ("nba_scratch", "optimizer.learning_rate=-0.1", ["learning_rate", "more than 0", "-0.1"]),
        ("nba_scratch", "seed=-1", ["seed", "-1"]),
        ("nba_scratch", "model.dropout=1", ["model.dropout", "less than 1", "1.0"]),
        ("nba_scratch", "model.hidden_units=[4,0]", ["model.hidden_units", "[4, 0]"]),
        ("nba_scratch", "data.features=[]", ["data.features", "at least one column"]),
        ("nba_scratch", "data.valid_fraction=1.5", ["data.valid_fraction", "1.5"]),
        ("nba_scratch", "model=cnn", ["expected images", "'nba'"]),
        ("nba_scratch", "model=resnet20", ["model.kind=resnet", "expected images", "'nba'"]),
        ("nba_scratch", "label_smoothing=0.1", ["label_smoothing", "engine=keras", "label_smoothing=0"]),
        ("nba_scratch", "ema=0.99", ["ema", "engine=keras", "ema=null"]),
        ("nba_scratch", "checkpoint_seconds=-1", ["checkpoint_seconds", "at least 0", "-1"]),
        ("nba_keras", "label_smoothing=0.1", ["label_smoothing", "categorical_crossentropy", "binary"]),
        ("nba_keras", "engine.mixed_precision=true", ["engine.mixed_precision", "float32", "float64"]),
        ("fashion_cnn", "label_smoothing=1", ["label_smoothing", "less than 1", "1.0"]),
        ("fashion_cnn", "ema=1", ["ema", "between 0 and 1", "1.0"]),
        ("fashion_cnn", "augmentation.erase=2", ["augmentation.erase", "probability", "2.0"]),
        ("fashion_cnn", "augmentation.shift=28", ["augmentation.shift", "0 to 27", "28"]),
        ("fashion_cnn", "augmentation.cutmix=-1", ["augmentation.cutmix", "at least 0", "-1.0"]),
        ("fashion_cnn", "augmentation.mixup=1 loss=mean_squared_error", ["augmentation.mixup", "mean_squared_error"]),
        ("fashion_resnet20", "model.stem_stride=0", ["model.stem_stride", "at least 1", "0"]),
        ("fashion_resnet20", "model.stem_filters=0", ["model.stem_filters", "at least 1", "0"]),
        ("fashion_cnn", "model.convolutions=0", ["model.convolutions", "at least 1", "0"]),
        ("fashion_cnn", "model.stem_stride=0", ["model.stem_stride", "at least 1", "0"]),
        ("fashion_resnet20", "model.blocks=0", ["model.blocks", "at least 1", "0"]),
        ("nba_scratch", "model.activation=softmax", ["softmax", "hidden layers"]),
        ("nba_scratch", "augmentation.flip=true", ["augmentation.flip=false", "engine=keras"]),
        ("nba_keras", "augmentation.flip_at_test=true", ["augmentation", "expected images", "'nba'"]),
        ("nba_keras", "loss=categorical_crossentropy", ["one output unit", "allow_degenerate=true"]),
        (
            "nba_keras",
            "loss=mean_squared_error data.task=regression data.classes=null loss=binary_crossentropy",
            ["regr"],
        ),
        ("nba_keras", "data.classes=[guard]", ["data.classes", "two classes"]),
        ("nba_keras", "data.classes=[a,b,c]", ["data.task=binary", "received 3", "multiclass"]),
        ("fashion_dense", "loss=binary_crossentropy", ["multiclass", "categorical_crossentropy"]),
        ("nba_keras", "engine.backend=jax", ["engine.dtype=float64", "expected float32", "engine.backend=tensorflow"]),
        ("fashion_cnn", "model.kernel_size=4", ["model.kernel_size", "odd", "4"]),
        ("fashion_cnn", "data.train_fraction=0", ["data.train_fraction", "0"]),
        ("fashion_cnn", "optimizer.schedule.warmup=1", ["warmup", "1"]),
        ("fashion_cnn", "optimizer.schedule.kind=exponential", ["schedule.end", "more than 0", "exponential"]),
    ],
)
def test_a_bad_value_gets_one_line_with_what_is_allowed(
    experiment: str, override: str, told: list[str], compose: Callable[..., Experiment]
) -> None:
    with pytest.raises(ConfigError) as error:
        compose(experiment, *override.split())
    message = str(error.value)
    assert "\n" not in message
    for part in told:
        assert part in message, message


def test_the_pair_of_the_chapter_has_to_be_asked_for_by_name(compose: Callable[..., Experiment]) -> None:
    book = compose("nba_keras_book")
    assert rules.loss(book) is Loss.categorical_crossentropy
    assert book.allow_degenerate
    assert "nothing is learned" in (rules.degenerate(book) or "")
    assert rules.degenerate(compose("nba_keras")) is None


def test_params_yaml_with_an_unknown_kind_names_the_kinds(root: Path) -> None:
    node = config.plain(config.experiment(config.compose(root).experiments.nba_scratch))
    node["optimizer"]["kind"] = "lion"
    with pytest.raises(ConfigError, match=r"optimizer\.kind: expected one of gradient_descent, .*'lion'"):
        config.experiment(node)
