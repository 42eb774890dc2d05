"""What a run looks like in MLflow: its parameters, tags, curves, artifacts, data set and account in words."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)

from twinnet.core.secrets import mask
from twinnet.tracking import description, models
from twinnet.tracking.curves import thin_table
from twinnet.tracking.store import PROCESS, Store
from twinnet.training.run import Run, config_hash, flatten
from twinnet.training.run_info import RunInfo, now

RESULT = "twinnet.result"  # tags that identify: what was computed,
CONFIGURATION = "twinnet.configuration"  # its configuration without the seed
MODEL, FIGURES = "model", "figures"
MAX_METRICS, MAX_PARAMS = 1000, 100  # of one log_batch
DIGEST = 12  # characters of the data set's digest, of which MLflow takes 36; the tag dvc.data has all of it


def create(store: Store, info: RunInfo, tags: Mapping[str, str], process: str) -> str:
    """Make a run whose tags say what it is, and which process trains or publishes it; return its id."""
    experiment = store.experiment(info.dataset, description.experiment(info.dataset))
    all_tags = _tags(info) | {PROCESS: process, "mlflow.note.content": description.running(info)} | dict(tags)
    all_tags = {key: mask(value, store.address) for key, value in all_tags.items()}
    name = all_tags.pop("mlflow.runName", info.name)  # a job of a sweep is named by its values
    return str(store.client.create_run(experiment, start_time=info.started, tags=all_tags, run_name=name).info.run_id)


def find_unfinished(store: Store, info: RunInfo, process: str) -> str | None:
    """Return the id of the run that `create` made before it was interrupted, if it did."""
    condition = f"attributes.status = 'RUNNING' AND tags.`{PROCESS}` = '{process}' AND tags.experiment = '{info.name}'"
    return next((run.info.run_id for run in store.search(condition) if run.info.start_time == info.started), None)


def describe(store: Store, run_id: str, facts: RunInfo) -> None:
    """Its parameters and its data set; doing it again after it failed half-way is no error."""
    params = [Param(key, value) for key, value in parameters(facts).items()]
    for begin in range(0, len(params), MAX_PARAMS):
        store.client.log_batch(run_id, params=params[begin : begin + MAX_PARAMS])
    store.client.log_inputs(run_id, [_dataset(facts, store)])


def rows(store: Store, run_id: str, points: Iterable[Mapping[str, float]], timestamp: int | None = None) -> None:
    """Send points of the curves, one dictionary a step, as `thin_table` makes them; `timestamp` if they have none.

    The same point with the same timestamp is kept once.
    """
    default = timestamp or now()
    metrics = [
        Metric(key, float(value), int(point.get("timestamp", default)), int(point["epoch"]))
        for point in points
        for key, value in point.items()
        if key not in ("epoch", "timestamp")
    ]
    for begin in range(0, len(metrics), MAX_METRICS):
        store.client.log_batch(run_id, metrics=metrics[begin : begin + MAX_METRICS])


def finish(store: Store, run_id: str, record: Run, last_epoch: int = 0) -> None:
    """Add what training left in the run's directory, then mark the run FINISHED, with its result, as the last act.

    `last_epoch` is the last one whose point of the curves the run has already.
    """
    client, facts = store.client, record.info
    ended = facts.ended or now()
    _metrics(store, run_id, record, last_epoch, ended)
    for path in (record.directory / "history.csv", record.directory / "history.npz"):
        if path.is_file():
            client.log_artifact(run_id, str(path), "history")
    for name in ("config.yaml", "metrics.json", "predictions.npz"):
        client.log_artifact(run_id, str(record.directory / name))
    model_id = _model(store, run_id, record)
    told = {"mlflow.note.content": description.finished(record, model_id), RESULT: record.content_hash}
    if facts.warnings:
        told["warnings"] = "; ".join(facts.warnings)
    client.log_batch(run_id, tags=[RunTag(key, mask(value, store.address)) for key, value in told.items()])
    client.set_terminated(run_id, "FINISHED", end_time=ended)


def attach_figures(store: Store, run_id: str, figures: Iterable[str]) -> None:
    """Send figures, unless the run has some."""
    if (figures := list(figures)) and not store.client.list_artifacts(run_id, FIGURES):
        for figure in figures:
            store.client.log_artifact(run_id, figure, FIGURES)


def fail(store: Store, run_id: str, facts: RunInfo, status: str, reason: str, traceback: str) -> None:
    """Mark the run FAILED or KILLED with the reason, and keep the traceback."""
    reason, traceback = mask(reason, store.address), mask(traceback, store.address)
    store.client.log_batch(
        run_id,
        tags=[RunTag("reason", reason), RunTag("mlflow.note.content", description.failed(facts, status, reason))],
    )
    if traceback:
        store.client.log_text(run_id, traceback, "traceback.txt")
    store.client.log_text(run_id, yaml.safe_dump(facts.config, sort_keys=False), "config.yaml")
    store.client.set_terminated(run_id, status)


def parameters(facts: RunInfo) -> dict[str, str]:
    """The flattened configuration, without what names and describes the run."""
    settings = {key: value for key, value in facts.config.items() if key not in ("name", "description")}
    return flatten(settings)


def _tags(facts: RunInfo) -> dict[str, str]:
    commit, dirty = facts.code.get("commit", ""), facts.code.get("dirty")
    told = {
        "experiment": facts.name,
        "engine": facts.engine,
        "device": facts.device,
        "seed": str(facts.config["seed"]),
        "data_source": str(facts.data.get("source", "")),
        CONFIGURATION: config_hash(facts.config),
        "overrides": " ".join(facts.overrides),
        "mlflow.source.name": facts.command,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "git.dirty": "" if dirty is None else str(dirty).lower(),
    }
    told |= {f"version.{name}": version for name, version in facts.versions.items()}
    told |= {f"dvc.{name}": value for name, value in facts.dvc.items()}
    told.setdefault("dvc.data", f"sha256:{facts.data['digest']}" if facts.data.get("digest") else "")
    return {key: value for key, value in told.items() if value}


def _dataset(facts: RunInfo, store: Store) -> DatasetInput:
    data = facts.data
    addresses = [str(address) for address in data.get("addresses") or []]
    if addresses and all(address.startswith("http") for address in addresses):
        folder = f"{addresses[0].rpartition('/')[0]}/"
        kind, source = "http", {"url": addresses[0] if len(addresses) == 1 else folder}
    else:
        kind, source = "local", {"uri": str(data.get("file", ""))}
    spec = {"type": "tensor", "tensor-spec": {"dtype": facts.dtype, "shape": [-1, *facts.input_shape]}}
    schema = {"mlflow_tensorspec": {"features": json.dumps([spec]), "targets": None}}
    dataset = Dataset(
        name=facts.dataset,
        digest=str(data.get("digest") or "unknown")[:DIGEST],
        source_type=kind,
        source=mask(json.dumps(source), store.address),
        schema=json.dumps(schema),
        profile=json.dumps({f"{split} samples": n for split, n in (data.get("samples") or {}).items()}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _metrics(store: Store, run_id: str, record: Run, last_epoch: int, ended: int) -> None:
    """What is left of the curves, then the final metrics at the last step.

    Where the last point of a curve is already the final metric, it stays the only one there.
    """
    curves = thin_table(record.history, record.info.epochs)
    rows(store, run_id, [row for row in curves if row["epoch"] > last_epoch], ended)
    last = curves[-1] if curves else {}
    final: dict[str, Any] = {
        key: value
        for key, value in record.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not _close(last.get(key), value)
    }
    rows(store, run_id, [final | {"epoch": int(record.metrics["epochs"])}], ended)


def _close(point: float | None, value: float) -> bool:
    return point is not None and abs(point - value) <= 1e-6 * max(abs(point), abs(value))


def _model(store: Store, run_id: str, record: Run) -> str | None:
    """The trained network as an MLflow model of its own that belongs to the run."""
    if record.model is None:
        return None
    client, facts = store.client, record.info
    made = client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name=facts.name,
        source_run_id=run_id,
        params={"engine": facts.engine, "parameters": str(facts.parameters)},
        model_type="neural network",
    )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / MODEL
        models.write(record, target, run_id, made.model_id)
        client.log_model_artifacts(made.model_id, str(target))
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, int(record.metrics["epochs"]))])
    return str(made.model_id)
