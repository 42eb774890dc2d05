"""A run in MLflow: its parameters, tags, curves, files, data set, model and description."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from mlflow import entities
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag

from twinnet.core import rules
from twinnet.core.schema import Task
from twinnet.core.secrets import mask
from twinnet.tracking import description, models
from twinnet.tracking.curves import FINAL, thin_table
from twinnet.tracking.store import CONFIGURATION, FIGURES, PROCESS, RESULT, Store
from twinnet.training.run import FULL_HISTORY, HISTORY, RESULT_FILES, Run, config_hash, flatten
from twinnet.training.run_info import RunInfo, now

NAME = "twinnet.name"  # the whole name of a run whose name in the store is shortened
MAX_PARAMS = 100  # of one log_batch
DIGEST = 12  # characters of the data set's digest, of which MLflow takes 36; the tag dvc.data has all of it


def open_experiment(store: Store, info: RunInfo) -> str:
    """Return the id of the experiment of a run; make it if there is none."""
    name = description.experiment_name(info.config)
    return store.experiment(name, description.experiment(name))


def create(store: Store, info: RunInfo, tags: Mapping[str, str], process: str, experiment: str) -> str:
    """Make a run whose tags say what it is, and which process trains or publishes it; return its id."""
    all_tags = _tags(info) | {PROCESS: process, "mlflow.note.content": description.running(info)} | dict(tags)
    all_tags = {key: mask(value, store.address) for key, value in all_tags.items()}
    name = all_tags.pop("mlflow.runName", description.run_name(info))  # a job of a sweep is named by its values
    short = description.short_name(name)
    if short != name:
        all_tags[NAME] = name
    return str(store.client.create_run(experiment, start_time=info.started, tags=all_tags, run_name=short).info.run_id)


def find_created(store: Store, info: RunInfo, process: str) -> str | None:
    """Return the id of the run that `create` made for this process before it was interrupted, if it did."""
    condition = f"tags.`{PROCESS}` = '{process}' AND tags.experiment = '{info.name}'"
    return next((run.info.run_id for run in store.search(condition) if run.info.start_time == info.started), None)


def describe(store: Store, run_id: str, info: RunInfo) -> None:
    """Send the parameters and the data set; it may be repeated after it failed half-way."""
    params = [Param(key, value) for key, value in parameters(info).items()]
    for begin in range(0, len(params), MAX_PARAMS):
        store.client.log_batch(run_id, params=params[begin : begin + MAX_PARAMS])
    store.add_dataset(run_id, _dataset(info, store))


def send_points(store: Store, run_id: str, points: Iterable[Mapping[str, float]], timestamp: int | None = None) -> None:
    """Send points of the curves, one dictionary a step, as `thin_table` makes them; `timestamp` if they have none."""
    default = timestamp or now()
    metrics = [
        Metric(key, float(value), int(point.get("timestamp", default)), int(point["epoch"]))
        for point in points
        for key, value in point.items()
        if key not in ("epoch", "timestamp")
    ]
    store.add_metrics(run_id, metrics)


def finish(
    store: Store, run_id: str, run: Run, info: RunInfo, last_epoch: int = 0, points: Sequence[Mapping[str, float]] = ()
) -> None:
    """Add the rest of the curves and the files of the finished run, then mark it FINISHED with its result.

    `points` of the curves are not in the store yet; `last_epoch` is that of the last one, or of the last one there.
    """
    client, stored = store.client, store.client.get_run(run_id)
    with _without_links(run) as plain:
        _send_metrics(store, run_id, plain, points, last_epoch, plain.info.ended or now())
        _send_files(store, run_id, plain)
        model_id = _send_model(store, stored, plain)
    tags = {"mlflow.note.content": description.finished(run, info, model_id), RESULT: run.content_hash}
    if info.warnings:
        tags["warnings"] = "; ".join(info.warnings)
    client.log_batch(run_id, tags=[RunTag(key, mask(value, store.address)) for key, value in tags.items()])
    if "reason" in stored.data.tags:  # it was taken for dead
        client.delete_tag(run_id, "reason")
    client.set_terminated(run_id, "FINISHED", end_time=run.info.ended or now())


@contextmanager
def _without_links(run: Run) -> Iterator[Run]:
    """Yield the run in plain files: MLflow refuses links, as DVC's cache may make them."""
    if not any(path.is_symlink() for path in run.directory.rglob("*")):
        yield run
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Run(Path(shutil.copytree(run.directory, Path(folder) / run.name)))


def _send_files(store: Store, run_id: str, run: Run) -> None:
    for name in (HISTORY, FULL_HISTORY):
        store.client.log_artifact(run_id, str(run.directory / name), "history")
    for name in RESULT_FILES:
        store.client.log_artifact(run_id, str(run.directory / name))


def attach_figures(store: Store, run_id: str, figures: Iterable[str]) -> None:
    """Send figures, unless the run has some."""
    if (figures := list(figures)) and not store.client.list_artifacts(run_id, FIGURES):
        for figure in figures:
            store.client.log_artifact(run_id, figure, FIGURES)


def fail(store: Store, run_id: str, info: RunInfo, status: str, reason: str, traceback: str) -> None:
    """Mark the run FAILED or KILLED with the reason, and keep the traceback."""
    reason, traceback = mask(reason, store.address), mask(traceback, store.address)
    tags = {"reason": reason, "mlflow.note.content": description.failed(info, status, reason)}
    store.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    if traceback:
        store.client.log_text(run_id, traceback, "traceback.txt")
    store.client.log_text(run_id, yaml.safe_dump(info.config, sort_keys=False), "config.yaml")
    store.client.set_terminated(run_id, status)


def parameters(info: RunInfo) -> dict[str, str]:
    """Return the flattened configuration without the run's name and description, with the loss that was used."""
    settings = {key: value for key, value in info.config.items() if key not in ("name", "description")}
    used = settings["loss"] or rules.DEFAULT_LOSS[Task(settings["data"]["task"])]
    return flatten(settings | {"loss": str(used)})


def _tags(info: RunInfo) -> dict[str, str]:
    commit, dirty = info.code.get("commit", ""), info.code.get("dirty")
    tags = {
        "experiment": info.name,
        "engine": info.engine,
        "device": info.device,
        "seed": str(info.config["seed"]),
        "data_source": str(info.data.get("source", "")),
        "data_digest": str(info.data.get("digest", ""))[:DIGEST],
        CONFIGURATION: config_hash(info.config),
        "overrides": " ".join(info.overrides),
        "mlflow.source.name": info.command,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "git.dirty": "" if dirty is None else str(dirty).lower(),
    }
    tags |= {f"version.{name}": version for name, version in info.versions.items()}
    tags |= {f"dvc.{name}": value for name, value in info.dvc.items()}
    tags.setdefault("dvc.data", f"sha256:{info.data['digest']}" if info.data.get("digest") else "")
    return {key: value for key, value in tags.items() if value}


def _dataset(info: RunInfo, store: Store) -> DatasetInput:
    data = info.data
    addresses = [str(address) for address in data.get("addresses") or []]
    if addresses and all(address.startswith("http") for address in addresses):
        folder = f"{addresses[0].rpartition('/')[0]}/"
        kind, source = "http", {"url": addresses[0] if len(addresses) == 1 else folder}
    else:
        kind, source = "local", {"uri": str(data.get("file", ""))}
    spec = {"type": "tensor", "tensor-spec": {"dtype": info.dtype, "shape": [-1, *info.input_shape]}}
    schema = {"mlflow_tensorspec": {"features": json.dumps([spec]), "targets": None}}
    dataset = Dataset(
        name=info.dataset,
        digest=str(data.get("digest") or "unknown")[:DIGEST],
        source_type=kind,
        source=mask(json.dumps(source), store.address),
        schema=json.dumps(schema),
        profile=json.dumps({f"{split} samples": n for split, n in (data.get("samples") or {}).items()}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _send_metrics(
    store: Store, run_id: str, run: Run, points: Sequence[Mapping[str, float]], last_epoch: int, ended: int
) -> None:
    """Send the rest of the curves, then the final scores at the last step, each under a key of its own."""
    curves = thin_table(run.history, run.info.epochs)
    final = {
        f"{FINAL}{key}" if key in run.history else key: value
        for key, value in run.metrics.items()
        if not isinstance(value, str)
    }
    rest = [row for row in curves if row["epoch"] > last_epoch]
    send_points(store, run_id, [*points, *rest, final | {"epoch": int(run.metrics["epochs"])}], ended)


def _send_model(store: Store, stored: entities.Run, run: Run) -> str:
    """Send the trained network as an MLflow model that belongs to the run in the store; return its id."""
    client, info, run_id = store.client, run.info, stored.info.run_id
    if stored.outputs and stored.outputs.model_outputs:  # by a process that was killed after it
        return str(stored.outputs.model_outputs[0].model_id)
    made = client.create_logged_model(
        stored.info.experiment_id,
        name=info.name,
        source_run_id=run_id,
        params={"engine": info.engine, "parameters": str(info.parameters)},
        model_type="neural network",
    )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / models.MODEL
        models.write(run, target, run_id, made.model_id)
        client.log_model_artifacts(made.model_id, str(target))
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, int(run.metrics["epochs"]))])
    return str(made.model_id)
