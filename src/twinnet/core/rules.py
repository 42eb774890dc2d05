"""Rules of the configuration: which values can be trained, alone and together. All hold before any data is read."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, get_type_hints

from twinnet.core import network, paths, schema, search_schema
from twinnet.core.errors import ConfigError
from twinnet.core.schema import (
    CNN,
    Activation,
    ArrayLibrary,
    Augmentation,
    Backend,
    Dtype,
    Experiment,
    ImageData,
    KerasEngine,
    Loss,
    ResNet,
    Scaling,
    ScheduleKind,
    ScratchEngine,
    TableData,
    Task,
)


@dataclass(frozen=True)
class Rule:
    """A condition on one value, and its wording for the user."""

    expected: str
    holds: Callable[[Any], bool]


def at_least(low: float, note: str = "") -> Rule:
    return Rule(f"at least {low}{note}", lambda value: value >= low)


def between(low: float, high: float, note: str = "") -> Rule:
    return Rule(f"{low} to {high}{note}", lambda value: low <= value <= high)


def each(rule: Rule, fewest: int = 0, most: int = 1000) -> Rule:
    """A list whose values are numbers that obey `rule`."""
    return Rule(
        f"a list of {fewest} to {most} numbers, each {rule.expected}",
        lambda values: fewest <= len(values) <= most and all(_is_number(v) and rule.holds(v) for v in values),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_inside(path: str) -> bool:
    """Whether a relative path stays in its folder."""
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and not {"..", "~"} & set(pure.parts) and "\\" not in path


POSITIVE = Rule("more than 0", lambda value: value > 0)
COUNT = at_least(1)
SEED = between(0, 2**32 - 1)
SECONDS = between(0, 86_400, " seconds")
TIMEOUT = Rule("more than 0, at most 86400 seconds", lambda value: 0 < value <= 86_400)
DECAY = Rule("at least 0 and less than 1", lambda value: 0 <= value < 1)
EPSILON = Rule("more than 0, at most 1", lambda value: 0 < value <= 1)
SIDE = between(1, 10_000)
TEXT = Rule("a text", lambda text: bool(text.strip()))
NAME = Rule(
    "at most 100 letters, digits, _, - and ., neither of the last two first",
    lambda name: re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) is not None,
)
FILES = Rule(
    "paths inside the folder of the data set, none of them hidden",
    lambda files: all(_is_inside(name) and not name.startswith(".") for name in files),
)
NAMES = Rule(
    "a list of 1 to 1000 different texts",
    lambda names: (
        1 <= len(names) == len(set(map(str, names))) <= 1000
        and all(isinstance(name, str) and name.strip() for name in names)
    ),
)

# Dataclass -> field -> rule; a subclass inherits. Null is right if the field may be null. What a number or a text must
# be everywhere (finite, without control characters) is in `check_values`.
RULES: dict[type, dict[str, Rule]] = {
    schema.Data: {
        "name": NAME,
        "file": Rule("a file inside data/processed", _is_inside),
        "classes": NAMES,
    },
    schema.TableData: {
        "features": NAMES,
        "target": TEXT,
        "valid_fraction": between(0.001, 0.999),
        "split_seed": SEED,
        "split_by": TEXT,
    },
    schema.ImageData: {
        "image_shape": Rule(
            "[height,width,channels], each 1 to 10000",
            lambda shape: len(shape) == 3 and all(_is_number(side) and SIDE.holds(side) for side in shape),
        ),
        "margin": at_least(0),
        "valid_samples": COUNT,
        "train_fraction": between(0.0001, 1),
    },
    schema.Model: {"dropout": DECAY, "l2": at_least(0)},
    schema.MLP: {"hidden_units": each(COUNT)},
    schema.CNN: {
        "filters": each(COUNT, 1),
        "kernel_size": Rule("an odd number, at least 1", lambda size: size >= 1 and size % 2 == 1),
        "convolutions": between(1, 100),
        "stem_stride": COUNT,
        "dense_units": each(COUNT),
    },
    schema.ResNet: {
        "filters": each(COUNT, 1),
        "blocks": between(1, 1000),
        "stem_filters": COUNT,
        "stem_stride": between(1, 3, ", the size of its kernel"),
    },
    schema.Schedule: {
        "warmup": Rule("a fraction of the steps, at least 0 and less than 1", DECAY.holds),
        "end": between(0, 1, ", a factor of the learning rate"),
    },
    schema.Optimizer: {"learning_rate": POSITIVE},
    schema.Momentum: {"momentum": DECAY},
    schema.Nesterov: {"momentum": DECAY},
    schema.RMSprop: {"rho": DECAY, "epsilon": EPSILON},
    schema.Adam: {"beta_1": DECAY, "beta_2": DECAY, "epsilon": EPSILON},
    schema.AdamW: {"weight_decay": at_least(0)},
    schema.Engine: {"threads": between(1, 1024)},
    schema.KerasEngine: {"steps_per_execution": between(1, 100_000)},
    schema.Limits: {"epochs": COUNT, "samples": COUNT},
    schema.EarlyStopping: {"patience": COUNT, "min_delta": at_least(0)},
    schema.Augmentation: {
        "shift": at_least(0, " pixels"),
        "shift_at_test": at_least(0, " pixels"),
        "erase": between(0, 1, ", a probability"),
        "mixup": at_least(0),
        "cutmix": at_least(0),
    },
    schema.Experiment: {
        "name": NAME,
        "epochs": between(1, 100_000_000),
        "batch_size": COUNT,
        "seed": SEED,
        "label_smoothing": DECAY,
        "ema": Rule("a decay between 0 and 1", lambda value: 0 < value < 1),
        "checkpoint_seconds": at_least(0),
    },
    schema.SingleRun: {
        "max_jobs": between(1, 1_000_000),
        "objective": Rule(
            "train, valid or test, then /loss, /accuracy or /mae, as valid/loss",
            lambda key: re.fullmatch(r"(train|valid|test)/(loss|accuracy|mae)", key) is not None,
        ),
    },
    schema.Tracking: {
        "live_seconds": SECONDS,
        "timeout_seconds": between(1, 3600, " seconds"),
        "patience_seconds": SECONDS,
        "deadline_seconds": SECONDS,
        "system_seconds": SECONDS,
    },
    schema.Compare: {
        "confidence": Rule("at least 0.5 and less than 1", lambda value: 0.5 <= value < 1),
        "resamples": between(100, 10_000_000),
        "seed": SEED,
        "bins": between(1, 1000),
    },
    schema.Dataset: {"name": NAME},
    schema.NBADataset: {
        "season": between(1996, 2100),
        "seasons": each(between(1996, 2100), 1, 100),
        "max_left_out": DECAY,
        "players": Rule(
            "the fewest and the most players of each type of season, as [350,750]",
            lambda players: all(len(pair) == 2 and 0 <= pair[0] <= pair[1] for pair in players.values()),
        ),
    },
    schema.ImageDataset: {"files": FILES},
    schema.TableDataset: {"files": FILES},
    search_schema.Search: {
        "study": TEXT,
        "seed": SEED,
        "pruned_after": between(0, 1, ", a fraction of the epochs"),
        "trials": COUNT,
        "processes": between(1, 1024),
    },
    schema.ArrayFile: {"shape": each(COUNT, 1, 4)},
    schema.Source: {"interval": SECONDS},
    schema.Transport: {
        "connect_timeout": TIMEOUT,
        "read_timeout": TIMEOUT,
        "total_timeout": TIMEOUT,
        "retries": between(0, 100),
        "backoff": SECONDS,
        "patience": SECONDS,
        "max_redirects": between(0, 100),
        "max_bytes": COUNT,
    },
}
MOST_PARAMETERS = 1_000_000_000
FEW_SAMPLES = 100  # of a batch that holds all samples, whose number is not known before the data is read

DEFAULT_LOSS = {
    Task.binary: Loss.binary_crossentropy,
    Task.multiclass: Loss.categorical_crossentropy,
    Task.regression: Loss.mean_squared_error,
}


def loss(experiment: Experiment) -> Loss:
    """The loss that is trained: the one asked for, or the task's own."""
    return experiment.loss or DEFAULT_LOSS[experiment.data.task]


def degenerate(experiment: Experiment) -> str | None:
    """Why the loss cannot teach this network anything, or None if it can."""
    if experiment.data.task is not Task.multiclass and loss(experiment) is Loss.categorical_crossentropy:
        return (
            "categorical_crossentropy normalises the outputs of a sample to sum to 1, so on one output unit the "
            "prediction is always 1, the gradient is 0 and nothing is learned"
        )
    return None


def check(experiment: Experiment, allow_batch: bool = False) -> None:
    """Raise ConfigError for the first value or combination that cannot be trained, alone or in a sweep."""
    check_values(experiment)
    _check_combination(experiment)
    _check_size(experiment)
    if isinstance(experiment.engine, ScratchEngine) and experiment.engine.batch_configs:
        _check_batch_configs(experiment.engine, allow_batch)


def check_dataset(dataset: schema.Dataset) -> None:
    """Raise ConfigError for the first value or combination of a data set that cannot be used."""
    check_value(schema.Dataset, "name", dataset.name, "datasets.")
    key = f"datasets.{dataset.name}"
    if dataset.reading.name != dataset.name:
        raise ConfigError(f"{key}.reading.name: expected {dataset.name}; received {dataset.reading.name}")
    check_values(dataset, f"{key}.")
    if isinstance(dataset, schema.NBADataset) and dataset.season_type not in dataset.players:
        raise ConfigError(f"{key}.players: expected numbers for {dataset.season_type}; received {dataset.players}")
    if isinstance(dataset, schema.ImageDataset):
        splits = ("train", "test") if {"X_test", "y_test"} & dataset.arrays.keys() else ("train",)
        if dataset.arrays.keys() != {f"{array}_{split}" for array in "Xy" for split in splits}:
            expected = "expected X_train and y_train, and both or none of X_test and y_test"
            raise ConfigError(f"{key}.arrays: {expected}; received {', '.join(dataset.arrays)}")
        for split in splits:
            samples, labels = dataset.arrays[f"X_{split}"].shape[:1], dataset.arrays[f"y_{split}"].shape
            if labels != samples:
                expected = f"expected {samples}, a label for each image of X_{split}; received {labels}"
                raise ConfigError(f"{key}.arrays.y_{split}.shape: {expected}")
        for name, array in dataset.arrays.items():
            if array.file not in dataset.files:
                expected = f"expected one of {', '.join(dataset.files)}; received {array.file!r}"
                raise ConfigError(f"{key}.arrays.{name}.file: {expected}")


def check_values(part: Any, key: str = "") -> None:
    """Raise ConfigError for the first value of a dataclass, or of one inside it, that breaks its rule."""
    for field in fields(part):
        value = getattr(part, field.name)
        check_value(type(part), field.name, value, key)
        for name, inner in value.items() if isinstance(value, dict) else [("", value)]:
            if is_dataclass(inner):
                check_values(inner, f"{key}{field.name}.{name}.".replace("..", "."))


def check_value(kind: type, name: str, value: Any, key: str = "") -> None:
    """Raise ConfigError if the value of the field `name` of `kind` breaks its rule; `key` stands before its name."""
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}{name}: expected a finite number; received {value}")
    if isinstance(value, str) and (control := re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value)):
        raise ConfigError(f"{key}{name}: expected a text without control characters; received {control[0]!r}")
    rule = next((RULES[base][name] for base in kind.__mro__ if name in RULES.get(base, ())), None)
    if rule and not rule.holds(value):
        or_null = ", or null" if _may_be_null(kind, name) else ""
        raise ConfigError(f"{key}{name}: expected {rule.expected}{or_null}; received {_shortened(value)}")


@cache
def _may_be_null(kind: type, name: str) -> bool:
    return type(None) in getattr(get_type_hints(kind)[name], "__args__", ())


def _shortened(value: Any) -> str:
    text = repr(value) if value == "" else str(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(value) if isinstance(value, list) else len(text)} long)"


def _check_batch_configs(engine: ScratchEngine, allowed: bool) -> None:
    if not allowed:
        raise ConfigError(
            "engine.batch_configs=true: expected a sweep (python -m twinnet.train -m ...), whose configurations are "
            "trained together; received one configuration"
        )
    if engine.array is not ArrayLibrary.jax:
        raise ConfigError(
            f"engine.batch_configs=true: expected engine.array=jax, which compiles; received {engine.array}"
        )


def check_file(data: schema.Data) -> None:
    """Raise ConfigError unless `file` is the one that `preprocess` writes for this kind of data.

    Not part of `check`, so that runs that older versions recorded with another `file` can still be read.
    """
    expected = type(data).file
    if data.file != expected:
        raise ConfigError(
            f"data.file: expected {expected}, in {paths.PROCESSED / data.name}/; received {data.file!r}; leave it out"
        )


def _check_size(e: Experiment) -> None:
    """Refuse a network that pools away its image, or that no machine holds."""
    built = network.build_network(e)
    shapes = built.shapes()
    for layer, shape in zip(built.layers, shapes, strict=False):
        step = layer.size if isinstance(layer, network.MaxPool2D) else getattr(layer, "stride", 1)
        if not isinstance(layer, network.Add) and step > min(shape[:2]):
            height, width = built.input_shape[:2]
            raise ConfigError(
                f"model: expected pooling and strides that fit images of {height} x {width}; received a step of {step} "
                f"over {shape[0]} x {shape[1]} pixels; use fewer model.filters or a smaller model.stem_stride"
            )
    parameters, size = built.parameters(), 8 if e.engine.dtype is Dtype.float64 else 4
    batch = min(filter(None, (e.batch_size, e.limits.samples)), default=FEW_SAMPLES)
    needed = size * (2 * parameters + batch * sum(math.prod(shape) for shape in shapes))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if parameters > MOST_PARAMETERS or needed > memory:
        raise ConfigError(
            f"model: expected a network of at most {MOST_PARAMETERS:,} parameters that fits the memory of this machine "
            f"({memory / 1e9:.0f} GB); received {parameters:,} parameters, which need {needed / 1e9:,.0f} GB or more "
            f"with their gradients and a batch of {batch}; use fewer units or filters"
        )


def _check_combination(experiment: Experiment) -> None:
    e = experiment
    task, trained = e.data.task, loss(experiment)
    if e.optimizer.schedule.kind is ScheduleKind.exponential and not e.optimizer.schedule.end:
        raise ConfigError("optimizer.schedule.end: expected more than 0 for kind=exponential; received 0.0")
    _check_data(e.data, e.model, e.augmentation)
    if task is not Task.regression and (not e.data.classes or len(e.data.classes) < 2):
        raise ConfigError(
            f"data.classes: expected the names of at least two classes for a {task} task; received {e.data.classes}"
        )
    if task is Task.binary and len(e.data.classes or []) != 2:
        raise ConfigError(
            f"data.task=binary: expected two classes; received {len(e.data.classes or [])}; use data.task=multiclass"
        )
    if task is Task.multiclass and trained is Loss.binary_crossentropy:
        raise ConfigError(
            "loss=binary_crossentropy: expected a binary task; received a multiclass one; "
            "use loss=categorical_crossentropy"
        )
    if task is Task.regression and trained is not Loss.mean_squared_error:
        raise ConfigError(f"loss={trained}: expected mean_squared_error for a regression task")
    if (reason := degenerate(e)) and not e.allow_degenerate:
        raise ConfigError(
            f"loss={trained}: {reason}; use loss=binary_crossentropy, or allow_degenerate=true to see it not learn"
        )
    if isinstance(e.model, CNN | ResNet) and not isinstance(e.data, ImageData):
        raise ConfigError(
            f"model.kind={e.model.kind}: expected images; received the table {e.data.name!r}; use model.kind=mlp"
        )
    if e.model.activation is Activation.softmax:
        raise ConfigError(
            "model.activation=softmax: expected sigmoid, relu, tanh or identity in hidden layers; "
            "the output layer of a multiclass task is softmax by itself"
        )
    if isinstance(e.engine, KerasEngine) and e.engine.backend is Backend.jax and e.engine.dtype is Dtype.float64:
        raise ConfigError(
            "engine.dtype=float64: expected float32 with engine.backend=jax, where Keras rounds to float32 in between; "
            "use engine.dtype=float32 or engine.backend=tensorflow"
        )
    if isinstance(e.engine, KerasEngine) and e.engine.mixed_precision and e.engine.dtype is Dtype.float64:
        raise ConfigError("engine.mixed_precision=true: expected engine.dtype=float32; received float64")
    soft = [name for name in ("mixup", "cutmix") if getattr(e.augmentation, name)]
    soft = [f"augmentation.{name}" for name in soft] + (["label_smoothing"] if e.label_smoothing else [])
    if soft and (task is not Task.multiclass or trained is not Loss.categorical_crossentropy):
        raise ConfigError(
            f"{soft[0]}: expected categorical_crossentropy on a multiclass task, whose targets can be spread over "
            f"classes; received {trained} on a {task} one; set it to 0"
        )
    if e.augmentation != Augmentation() and not isinstance(e.data, ImageData):
        raise ConfigError(f"augmentation: expected images; received the table {e.data.name!r}")


def _check_data(data: schema.Data, model: schema.Model, augmentation: Augmentation) -> None:
    if data.task is Task.regression and data.classes is not None:
        raise ConfigError(f"data.classes: expected null for data.task=regression; received {data.classes}")
    if isinstance(data, TableData):
        if data.scaling is Scaling.unit:
            raise ConfigError("data.scaling: expected none or standard for a table; received unit")
        for key in ("target", "split_by"):
            if getattr(data, key) in data.features:
                raise ConfigError(f"data.features: expected columns without data.{key}; received {getattr(data, key)}")
    if isinstance(data, ImageData):
        side = min(data.image_shape[:2])
        for name in ("shift", "shift_at_test"):
            if (pixels := getattr(augmentation, name)) >= side:
                raise ConfigError(f"augmentation.{name}: expected 0 to {side - 1} pixels; received {pixels}")
        if getattr(model, "kernel_size", 1) > side:
            raise ConfigError(f"model.kernel_size: expected an odd number up to {side}; received {model.kernel_size}")  # type: ignore[attr-defined]  # a CNN
        if 2 * data.margin >= side:
            raise ConfigError(f"data.margin: expected 0 to {(side - 1) // 2} pixels; received {data.margin}")
