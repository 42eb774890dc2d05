"""Which values make sense together. Every rule speaks before any data is loaded, in one line."""

from typing import Any

from twinnet.core import paths
from twinnet.core.errors import ConfigError
from twinnet.core.schema import (
    CNN,
    MLP,
    Activation,
    ArrayLibrary,
    Augmentation,
    Backend,
    Compare,
    Data,
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

DEFAULT_LOSS = {
    Task.binary: Loss.binary_crossentropy,
    Task.multiclass: Loss.categorical_crossentropy,
    Task.regression: Loss.mean_squared_error,
}
OUTPUT_ACTIVATION = {
    Task.binary: Activation.sigmoid,
    Task.multiclass: Activation.softmax,
    Task.regression: Activation.identity,
}


def output_units(task: Task, classes: int) -> int:
    return classes if task is Task.multiclass else 1


def loss(experiment: Experiment) -> Loss:
    """The loss that is trained: the one asked for, or the task's own."""
    return experiment.loss or DEFAULT_LOSS[experiment.data.task]


def degenerate(experiment: Experiment) -> str | None:
    """Why the loss cannot teach this network anything, or None where it can."""
    if experiment.data.task is not Task.multiclass and loss(experiment) is Loss.categorical_crossentropy:
        return (
            "categorical_crossentropy normalises the outputs of a sample to sum to 1, so on one output unit the "
            "prediction is always 1, the gradient is 0 and nothing is learned"
        )
    return None


def check(experiment: Experiment, sweep: bool = False) -> None:
    """Raise ConfigError for the first value or combination that cannot be trained, by itself or in a sweep."""
    _check_numbers(experiment)
    _check_combination(experiment)
    if isinstance(experiment.engine, ScratchEngine) and experiment.engine.batch_configs:
        _check_batch_configs(experiment.engine, sweep)


def _check_batch_configs(engine: ScratchEngine, sweep: bool) -> None:
    if not sweep:
        raise ConfigError(
            "engine.batch_configs=true: expected a sweep (python -m twinnet.train -m ...), whose configurations are "
            "trained together; received one configuration"
        )
    if engine.array is not ArrayLibrary.jax:
        raise ConfigError(
            f"engine.batch_configs=true: expected engine.array=jax, which compiles; received {engine.array.value}"
        )


def check_file(data: Data) -> None:
    """Raise ConfigError unless `file` is the one that `preprocess` writes for this kind of data.

    Not part of `check`, so that runs that older versions recorded with another `file` can still be read.
    """
    expected = type(data).file
    if data.file != expected:
        raise ConfigError(
            f"data.file: expected {expected}, in {paths.PROCESSED / data.name}/; received {data.file!r}; leave it out"
        )


def check_compare(compare: Compare) -> None:
    """Raise ConfigError for the first setting of a comparison that cannot be used."""
    _expect(0.5 <= compare.confidence < 1, "compare.confidence", "at least 0.5 and less than 1", compare.confidence)
    _expect(compare.resamples >= 100, "compare.resamples", "at least 100", compare.resamples)
    _expect(0 <= compare.seed < 2**32, "compare.seed", "0 to 4294967295", compare.seed)
    _expect(compare.bins >= 1, "compare.bins", "at least 1", compare.bins)


def _check_numbers(experiment: Experiment) -> None:
    e = experiment
    _expect(e.epochs >= 1, "epochs", "at least 1", e.epochs)
    _expect(
        e.batch_size is None or e.batch_size >= 1, "batch_size", "at least 1, or null for all samples", e.batch_size
    )
    _expect(e.optimizer.learning_rate > 0, "optimizer.learning_rate", "more than 0", e.optimizer.learning_rate)
    _expect(0 <= e.seed < 2**32, "seed", "0 to 4294967295", e.seed)
    _expect(0 <= e.model.dropout < 1, "model.dropout", "at least 0 and less than 1", e.model.dropout)
    _expect(e.model.l2 >= 0, "model.l2", "at least 0", e.model.l2)
    schedule = e.optimizer.schedule
    _expect(0 <= schedule.warmup < 1, "optimizer.schedule.warmup", "a fraction of the steps, 0 to 1", schedule.warmup)
    _expect(0 <= schedule.end <= 1, "optimizer.schedule.end", "a factor from 0 to 1", schedule.end)
    if schedule.kind is ScheduleKind.exponential:
        _expect(schedule.end > 0, "optimizer.schedule.end", "more than 0 for kind=exponential", schedule.end)
    patience = e.early_stopping.patience
    _expect(patience is None or patience >= 1, "early_stopping.patience", "at least 1, or null for never", patience)
    _expect(
        e.engine.threads is None or e.engine.threads >= 1, "engine.threads", "at least 1, or null", e.engine.threads
    )
    if isinstance(e.model, MLP):
        _expect(
            all(u >= 1 for u in e.model.hidden_units), "model.hidden_units", "units of 1 or more", e.model.hidden_units
        )
    if isinstance(e.model, CNN | ResNet):
        _expect(bool(e.model.filters) and min(e.model.filters) >= 1, "model.filters", "1 or more", e.model.filters)
        _expect(e.model.stem_stride >= 1, "model.stem_stride", "at least 1", e.model.stem_stride)
    if isinstance(e.model, CNN):
        _expect(e.model.kernel_size % 2 == 1, "model.kernel_size", "an odd number", e.model.kernel_size)
        _expect(e.model.convolutions >= 1, "model.convolutions", "at least 1", e.model.convolutions)
    if isinstance(e.model, ResNet):
        _expect(e.model.blocks >= 1, "model.blocks", "at least 1", e.model.blocks)
        stem = e.model.stem_filters
        _expect(stem is None or stem >= 1, "model.stem_filters", "at least 1, or null", stem)
    seconds = e.checkpoint_seconds
    _expect(seconds is None or seconds >= 0, "checkpoint_seconds", "at least 0, or null for none", seconds)
    _check_regularisation(e)
    if isinstance(e.data, TableData):
        _expect(bool(e.data.features), "data.features", "at least one column", e.data.features)
        _expect(0 < e.data.valid_fraction < 1, "data.valid_fraction", "between 0 and 1", e.data.valid_fraction)
        _expect(e.data.scaling is not Scaling.unit, "data.scaling", "none or standard for a table", "unit")
    if isinstance(e.data, ImageData):
        _expect(e.data.valid_samples >= 1, "data.valid_samples", "at least 1", e.data.valid_samples)
        _expect(0 < e.data.train_fraction <= 1, "data.train_fraction", "more than 0, at most 1", e.data.train_fraction)


def _check_regularisation(e: Experiment) -> None:
    changes = e.augmentation
    _expect(0 <= e.label_smoothing < 1, "label_smoothing", "at least 0 and less than 1", e.label_smoothing)
    _expect(e.ema is None or 0 < e.ema < 1, "ema", "a decay between 0 and 1, or null for no average", e.ema)
    _expect(0 <= changes.erase <= 1, "augmentation.erase", "a probability from 0 to 1", changes.erase)
    _expect(changes.mixup >= 0, "augmentation.mixup", "at least 0", changes.mixup)
    _expect(changes.cutmix >= 0, "augmentation.cutmix", "at least 0", changes.cutmix)
    if isinstance(e.data, ImageData):
        side = min(e.data.image_shape[:2])
        _expect(0 <= changes.shift < side, "augmentation.shift", f"0 to {side - 1} pixels", changes.shift)


def _check_combination(experiment: Experiment) -> None:
    e = experiment
    task, trained = e.data.task, loss(experiment)
    if task is not Task.regression and (not e.data.classes or len(e.data.classes) < 2):
        raise ConfigError(
            f"data.classes: expected the names of at least two classes for a {task.value} task; "
            f"received {e.data.classes}"
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
        raise ConfigError(f"loss={trained.value}: expected mean_squared_error for a regression task")
    if (reason := degenerate(e)) and not e.allow_degenerate:
        raise ConfigError(
            f"loss={trained.value}: {reason}; use loss=binary_crossentropy, "
            "or allow_degenerate=true to see it not learn"
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
    if isinstance(e.engine, ScratchEngine):
        _check_scratch(e)
    soft = [name for name in ("mixup", "cutmix") if getattr(e.augmentation, name)]
    soft = [f"augmentation.{name}" for name in soft] + (["label_smoothing"] if e.label_smoothing else [])
    if soft and (task is not Task.multiclass or trained is not Loss.categorical_crossentropy):
        raise ConfigError(
            f"{soft[0]}: expected categorical_crossentropy on a multiclass task, whose targets can be spread over "
            f"classes; received {trained.value} on a {task.value} one; set it to 0"
        )
    if e.augmentation != Augmentation() and not isinstance(e.data, ImageData):
        raise ConfigError(f"augmentation: expected images; received the table {e.data.name!r}")


def _check_scratch(e: Experiment) -> None:
    """What only the Keras engine does."""
    unused = Augmentation(flip_at_test=e.augmentation.flip_at_test)
    for name in ("flip", "shift", "erase", "mixup", "cutmix"):
        if getattr(e.augmentation, name) != getattr(unused, name):
            raise ConfigError(
                f"augmentation.{name}: expected engine=keras; the scratch engine does not augment; "
                f"set augmentation.{name}={str(getattr(unused, name)).lower()} or engine=keras"
            )
    for name, off in (("label_smoothing", 0.0), ("ema", None)):
        if getattr(e, name) != off:
            raise ConfigError(
                f"{name}: expected engine=keras; the scratch engine has none; "
                f"set {name}={'null' if off is None else '0'} or engine=keras"
            )


def _expect(holds: bool, key: str, expected: str, received: Any) -> None:
    if not holds:
        raise ConfigError(f"{key}: expected {expected}; received {received}")


NOISE = ("full_key", "object_type", "reference_type", "Config search path", "provider=")


def explain(error: Exception) -> str:
    """One line from what Hydra or OmegaConf raised: the key, what was received, what is allowed."""
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        for line in map(str.strip, str(cause).splitlines()):
            if line and line not in told and not line.startswith(NOISE):
                told.append(line)
        cause = cause.__cause__
    return "; ".join(told)
