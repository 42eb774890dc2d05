"""A run told in words: the description that the MLflow UI shows, in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo


def experiment(dataset: str) -> str:
    """About all runs on one data set."""
    return (
        f"Networks trained on the data set {dataset}: compare runs by valid/loss and valid/accuracy; "
        "a step is an epoch."
    )


def running(facts: RunInfo) -> str:
    return _account(facts, ["**Result.** Still training; the curves grow as it goes."])


def failed(facts: RunInfo, status: str, reason: str) -> str:
    return _account(facts, [f"**{'Interrupted' if status == 'KILLED' else 'Failed'}.** {reason}"])


def finished(record: Run, model_id: str | None) -> str:
    facts, metrics = record.info, record.metrics
    scores = "; ".join(f"{split}: {told}" for split, told in _scores(metrics))
    result = [f"**Result.** {scores}; {metrics['epochs']:,} epochs in {_seconds(metrics)}."]
    result += [f"**Warning.** {warning}" for warning in facts.warnings]
    use = (
        f"**Use it.** `mlflow.pyfunc.load_model('models:/{model_id}').predict(X)` takes X of shape "
        f"{_shape(facts)}, {facts.dtype}, scaled as `data.scaling` says ({facts.config['data']['scaling']}); "
        f"`mlflow models serve -m models:/{model_id} --env-manager local` serves it."
    )
    return _account(facts, result, [use] if model_id else [])


def _account(facts: RunInfo, result: list[str], use: Sequence[str] = ()) -> str:
    """The result before all else that is said: the page shows the first lines only, until it is asked for more."""
    title = str(facts.config.get("description") or facts.name)
    return "\n\n".join([title, *result, *_what(facts), *use, _again(facts)])


def _what(facts: RunInfo) -> list[str]:
    """What was trained, and on what."""
    config, data = facts.config, facts.data
    optimizer = config["optimizer"]
    batch = f"batches of {config['batch_size']}" if config.get("batch_size") else "all samples in one batch"
    lines = [
        f"**What.** {_network(facts)}, {facts.parameters:,} parameters, trained by {facts.engine} on "
        f"{facts.device or 'a device that was not recorded'} with {optimizer['kind'].replace('_', ' ')}, "
        f"learning rate {optimizer['learning_rate']:g}, {batch}, {config['epochs']:,} epochs, seed {config['seed']}."
    ]
    samples = ", ".join(f"{n:,} {split}" for split, n in (data.get("samples") or {}).items() if n)
    where = {"synthetic": "**a synthetic stand-in, not real data**"}.get(
        data.get("source", ""), data.get("source") or "?"
    )
    lines.append(f"**Data.** `{data.get('file', facts.dataset)}` ({where}){': ' + samples if samples else ''}.")
    return lines


def _network(facts: RunInfo) -> str:
    model = facts.config["model"]
    if model["kind"] == "mlp":
        inputs = "×".join(map(str, facts.input_shape))
        return f"A dense network {'-'.join([inputs, *map(str, model['hidden_units']), str(facts.units)])}"
    if model["kind"] == "cnn":
        return f"A convolutional network with {', '.join(map(str, model['filters']))} filters"
    return f"A network of the kind {model['kind']}"


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each split, the one that counts first, with its scores in words."""
    for split in ("test", "valid", "train"):
        told = [
            f"{name} {value:.2%}" if name == "accuracy" else f"{name} {value:.4f}"
            for key, value in metrics.items()
            for where, _, name in [key.partition("/")]
            if where == split
        ]
        if told:
            yield split, ", ".join(told)


def _seconds(metrics: Mapping[str, Any]) -> str:
    return f"{float(metrics['seconds']):.3g} s"


def _shape(facts: RunInfo) -> str:
    return f"({', '.join(['samples', *map(str, facts.input_shape)])})"


def _again(facts: RunInfo) -> str:
    commit, dirty = facts.code.get("commit", ""), facts.code.get("dirty")
    at = f"At commit `{commit[:12]}`{' with changes that were not committed' if dirty else ''}: " if commit else ""
    if facts.dvc.get("stage"):
        how = f"dvc repro {facts.dvc['stage']}"
    else:
        overrides = [change for change in facts.overrides if not change.startswith("experiment=")]
        how = " ".join(["python -m twinnet.train", f"experiment={facts.name}", *overrides])
    return f"**Again.** {at}`{how}`; the whole configuration is in `config.yaml`."
