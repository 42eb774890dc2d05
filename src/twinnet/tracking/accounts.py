"""A run told in words: the description that the MLflow UI shows, in Markdown."""

from typing import Any

from twinnet.records import Facts, Record


def experiment(dataset: str) -> str:
    """About all runs on one data set."""
    return (
        f"Networks trained on the data set {dataset}. A run is one training of one experiment of conf/; "
        "compare runs by valid/loss and valid/accuracy, whose step is the epoch."
    )


def running(facts: Facts) -> str:
    return "\n\n".join([*_head(facts), "**Result.** Still training; the curves grow as it goes.", _again(facts)])


def failed(facts: Facts, status: str, reason: str) -> str:
    word = "Interrupted" if status == "KILLED" else "Failed"
    return "\n\n".join([*_head(facts), f"**{word}.** {reason}", _again(facts)])


def finished(record: Record, model_id: str | None) -> str:
    facts, metrics = record.facts, record.metrics
    parts = [
        *_head(facts),
        f"**Result** after {metrics['epochs']:,} epochs in {_seconds(metrics)}:\n\n{_scores(metrics)}",
    ]
    parts += [f"**Warning.** {warning}" for warning in facts.warnings]
    if model_id:
        parts.append(
            f"**Use it.** `mlflow.pyfunc.load_model('models:/{model_id}').predict(X)` takes X of shape "
            f"{_shape(facts)}, {facts.dtype}, scaled as `data.scaling` says ({facts.config['data']['scaling']})."
        )
    return "\n\n".join([*parts, _again(facts)])


def _head(facts: Facts) -> list[str]:
    """What was trained, and on what."""
    config, data = facts.config, facts.data
    optimizer = config["optimizer"]
    batch = f"batches of {config['batch_size']}" if config.get("batch_size") else "all samples in one batch"
    lines = [str(config.get("description") or config["name"])]
    lines.append(
        f"**What.** {_network(facts)}, {facts.parameters:,} parameters, trained by {facts.engine} on "
        f"{facts.device or 'a device that was not recorded'} with {optimizer['kind'].replace('_', ' ')}, "
        f"learning rate {optimizer['learning_rate']:g}, {batch}, {config['epochs']:,} epochs, seed {config['seed']}."
    )
    samples = ", ".join(f"{n:,} {split}" for split, n in (data.get("samples") or {}).items() if n)
    where = {"synthetic": "**a synthetic stand-in, not real data**"}.get(
        data.get("source", ""), data.get("source") or "?"
    )
    lines.append(f"**Data.** `{data.get('file', facts.dataset)}` ({where}){': ' + samples if samples else ''}.")
    return lines


def _network(facts: Facts) -> str:
    model = facts.config["model"]
    if model["kind"] == "mlp":
        inputs = "×".join(map(str, facts.input_shape))
        return f"A dense network {'-'.join([inputs, *map(str, model['hidden_units']), str(facts.units)])}"
    return f"A convolutional network with {', '.join(map(str, model['filters']))} filters"


def _scores(metrics: dict[str, Any]) -> str:
    """A table with a row for each split."""
    names = list(dict.fromkeys(key.partition("/")[2] for key in metrics if "/" in key))
    splits = list(dict.fromkeys(key.partition("/")[0] for key in metrics if "/" in key))
    lines = ["| split | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for split in splits:
        cells = [_number(metrics.get(f"{split}/{name}")) for name in names]
        lines.append(f"| {split} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def _seconds(metrics: dict[str, Any]) -> str:
    return f"{float(metrics['seconds']):.3g} s"


def _shape(facts: Facts) -> str:
    return f"({', '.join(['samples', *map(str, facts.input_shape)])})"


def _again(facts: Facts) -> str:
    commit, dirty = facts.code.get("commit", ""), facts.code.get("dirty")
    at = f"At commit `{commit[:12]}`{' with changes that were not committed' if dirty else ''}: " if commit else ""
    if facts.dvc.get("stage"):
        how = f"dvc repro {facts.dvc['stage']}"
    else:
        overrides = [change for change in facts.overrides if not change.startswith("experiment=")]
        how = " ".join(["python -m twinnet.train", f"experiment={facts.name}", *overrides])
    return f"**Again.** {at}`{how}`; the whole configuration is in `config.yaml`."
