"""The name and the description of a run in the MLflow UI, in Markdown."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinnet.core import config
from twinnet.core.augmentation import views
from twinnet.core.errors import ConfigError
from twinnet.core.provenance import SYNTHETIC, SYNTHETIC_NOTE
from twinnet.training.run import Run, flatten
from twinnet.training.run_info import RunInfo

REGRESSION = "_regression"  # after the data set, in the name of an MLflow experiment
MAX_NAME = 250  # characters of a run's name on PostgreSQL
# Beginnings of overrides that have no effect on a single training.
SWEEP_KEYS = ("resume=", "fail_fast=", "figures=", "max_jobs=", "objective=", "engine.batch_configs=")
WITHOUT_EFFECT = ("experiment=", "tracking", "hydra", *SWEEP_KEYS)


def experiment(name: str) -> str:
    """Return the description of the MLflow experiment of a name that `experiment_name` gave."""
    return (
        f"Networks trained on the data set {name.removesuffix(REGRESSION)}; a step is an epoch. `valid/loss` is the "
        "curve; `final/valid/loss` is the score of the saved network, as in metrics.json and in the leaderboard."
    )


def experiment_name(settings: Mapping[str, Any]) -> str:
    """Return the MLflow experiment of a training's configuration: regressions share no chart with classifications."""
    data = settings["data"]
    return f"{data['name']}{REGRESSION if data['task'] == 'regression' else ''}"


def short_name(name: str) -> str:
    """Return the name of a run as every store takes it."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..."


def overrides(info: RunInfo, root: Path) -> list[str]:
    """Return what differs from the experiment's file in conf/, as Hydra's overrides.

    A stage of DVC records no overrides: `dvc exp run -S` has written them into params.yaml. Keys that conf/ no longer
    has are left out.
    """
    if info.overrides or not info.dvc.get("stage"):
        return info.overrides
    try:
        node = config.compose(root, "train", [f"experiment={info.name}"])
        base = flatten(config.plain(config.experiment(node)))
    except ConfigError:  # conf/ has another layout by now
        return []
    trained = flatten(info.config)
    return [
        f"{key}={value}" for key, value in trained.items() if base.get(key, value) != value and key != "description"
    ]


def run_name(info: RunInfo) -> str:
    """Return the experiment with what differs from its file, or with the name of the DVC experiment."""
    if info.dvc.get("exp"):
        return f"{info.name} {info.dvc['exp']}"
    changes = [change.partition("=") for change in _changes(info)]
    return " ".join([info.name, *(f"{key.rpartition('.')[2]}={value}" for key, _, value in changes)])


def running(info: RunInfo) -> str:
    return _describe(info, ["**Result.** Still training; the curves grow meanwhile."])


def failed(info: RunInfo, status: str, reason: str) -> str:
    return _describe(info, [f"**{'Interrupted' if status == 'KILLED' else 'Failed'}.** {reason}"])


def finished(run: Run, info: RunInfo, model_id: str) -> str:
    scores = "; ".join(f"{split}: {text}" for split, text in _scores(run.metrics))
    lines = [f"**Result.** {scores}; {run.metrics['epochs']:,} epochs in {float(run.metrics['seconds']):.3g} s."]
    if averaged := views(run.experiment.augmentation):
        lines[0] += f" Each score is of the mean of the predictions for an image and {averaged}."
    lines += [f"**Warning.** {warning}" for warning in info.warnings]
    shape = ", ".join(["samples", *map(str, info.input_shape)])
    usage = (
        f"**Usage.** `mlflow.pyfunc.load_model('models:/{model_id}').predict(X)` takes X of shape "
        f"({shape}), {info.dtype}, scaled as `data.scaling` says ({info.config['data']['scaling']}); "
        f"`mlflow models serve -m models:/{model_id} --env-manager local` serves it."
    )
    return _describe(info, lines, [usage])


def _describe(info: RunInfo, result: Sequence[str], usage: Sequence[str] = ()) -> str:
    """Return the paragraphs, the result first: the page shows the first lines only."""
    title = str(info.config.get("description") or info.name)
    return "\n\n".join([title, *result, *_model(info), *usage, _reproduce(info)])


def _model(info: RunInfo) -> list[str]:
    """Return the network with its training, and the data."""
    settings, data = info.config, info.data
    optimizer = settings["optimizer"]
    batch = f"batches of {settings['batch_size']}" if settings.get("batch_size") else "all samples in one batch"
    samples = ", ".join(f"{n:,} {split}" for split, n in (data.get("samples") or {}).items() if n)
    source = data.get("source") or "?"
    origin = f"**{SYNTHETIC_NOTE}**" if source == SYNTHETIC else source
    return [
        f"**Model.** {_network(info)}, {info.parameters:,} parameters, trained by {info.engine} on "
        f"{info.device or 'a device that was not recorded'} with {optimizer['kind'].replace('_', ' ')}, "
        f"learning rate {optimizer['learning_rate']:g}, {batch}, {info.epochs:,} epochs, seed {settings['seed']}.",
        f"**Data.** `{data.get('file', info.dataset)}` ({origin}){': ' + samples if samples else ''}.",
    ]


def _network(info: RunInfo) -> str:
    model = info.config["model"]
    if model["kind"] == "mlp":
        inputs = "×".join(map(str, info.input_shape))
        return f"A dense network {'-'.join([inputs, *map(str, model['hidden_units']), str(info.units)])}"
    if model["kind"] == "cnn":
        return f"A convolutional network with {', '.join(map(str, model['filters']))} filters"
    return f"A network of the kind {model['kind']}"


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each split, the evaluation split first, with its scores."""
    for split in ("test", "valid", "train"):
        scores = {key.partition("/")[2]: value for key, value in metrics.items() if key.startswith(f"{split}/")}
        texts = [
            f"{name} {value:.2%}" if name == "accuracy" else f"{name} {value:.4f}" for name, value in scores.items()
        ]
        if texts:
            yield split, ", ".join(texts)


def _changes(info: RunInfo) -> list[str]:
    return [change for change in info.overrides if "=" in change and not change.lstrip("+~").startswith(WITHOUT_EFFECT)]


def _reproduce(info: RunInfo) -> str:
    """Return the command that makes this run."""
    commit, dirty = info.code.get("commit", ""), info.code.get("dirty")
    at = f"At commit `{commit[:12]}`{' with changes that were not committed' if dirty else ''}: " if commit else ""
    changes, stage = _changes(info), info.dvc.get("stage")
    if stage and changes:
        values = [f"-S {shlex.quote(f'experiments.{info.name}.{change}')}" for change in changes]
        command = " ".join(["dvc exp run", *values, stage])
    elif stage:
        command = f"dvc repro {stage}"
    else:
        chosen = [change for change in info.overrides if change.startswith("experiment=")]
        if not (chosen or any(change.startswith("name=") for change in changes)):  # it has the name of its file
            chosen = [f"experiment={info.name}"]
        command = " ".join(["python -m twinnet.train", *map(shlex.quote, chosen + changes)])
    return f"**Reproduce.** {at}`{command}`; the whole configuration is in `config.yaml`."
