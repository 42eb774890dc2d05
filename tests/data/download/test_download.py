"""Sources in their order, what appears in data/raw/, and the log."""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.data.faults import server as fault_server
from tests.data.faults.server import FaultServer
from tests.data.faults.worlds import Players, World, csv_world, idx_world, json_world
from twinnet.core import config, provenance
from twinnet.core.errors import ConfigError, DataError, exit_on_error
from twinnet.core.schema import Dataset, NBADataset, SeasonType, Source, SourcePolicy, SyntheticKind
from twinnet.data.download.download import download_dataset
from twinnet.data.download.sources import source_kind

ROOT = Path(__file__).parents[3]
GONE = Source(kind="files", address="http://127.0.0.1:9/")
GONE_STATS = Source(kind="nba_stats", address="http://127.0.0.1:9/")
MIRROR = Source(kind="mirror")
PLAYERS = {"regular_season": [350, 750]}


def mirror_folder(world: World, folder: Path) -> Path:
    """The files of a world, laid out as TWINNET_MIRROR expects."""
    for name, content in world.files.items():
        path = folder / ("nba/2019-20" if isinstance(world, Players) else "pictures")
        path.mkdir(parents=True, exist_ok=True)
        (path / (f"{name}.json" if isinstance(world, Players) else name)).write_bytes(content)
    return folder


def with_sources(dataset: Dataset, policy: SourcePolicy = SourcePolicy.auto, **sources: Source) -> Dataset:
    return replace(dataset, source=policy, sources=sources)


def good(server: FaultServer, world: World) -> Source:
    server.files |= {f"/{world.kind}/{name}": content for name, content in world.files.items()}
    return world.source(f"{server.address}/{world.kind}")


def test_mirror_folder_comes_first_and_its_path_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = json_world()
    monkeypatch.setenv("TWINNET_MIRROR", str(mirror_folder(world, tmp_path / "m")))
    target = download_dataset(with_sources(world.dataset(), mirror=MIRROR, upstream=GONE), tmp_path)
    assert world.matches_truth(target)
    record = provenance.read("nba", tmp_path)
    assert record.source == "mirror"
    assert [file.address for file in record.files] == [
        "TWINNET_MIRROR/nba/2019-20/playerindex.json",
        "TWINNET_MIRROR/nba/2019-20/leaguedashplayerstats.json",
    ]
    assert str(tmp_path) not in (target / "provenance.json").read_text(encoding="utf-8")
    for file in record.files:
        assert (target / file.name).read_bytes() == (tmp_path / "m" / "nba" / file.name).read_bytes()
        assert provenance.sha256(target / file.name) == file.sha256
        assert (target / file.name).stat().st_size == file.bytes


def test_mirror_may_be_an_address_with_a_password(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = idx_world()
    server.files = {f"/m/pictures/{name}": content for name, content in world.files.items()}
    monkeypatch.setenv("TWINNET_MIRROR", server.address.replace("http://", "http://me:secret@") + "/m")
    target = download_dataset(with_sources(world.dataset(), mirror=MIRROR), tmp_path)
    assert world.matches_truth(target)
    assert "secret" not in (target / "provenance.json").read_text(encoding="utf-8")
    assert server.requests[0][2]["authorization"].startswith("Basic ")


@pytest.mark.parametrize("form", ["file://{}/a%20mirror", "{}/a mirror", "relative"])
def test_mirror_may_be_a_folder_in_any_form(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is relative to the checkout, also from a subfolder or a copy that DVC makes."""
    world, checkout = json_world(), tmp_path / "checkout"
    mirror_folder(world, tmp_path / "a mirror")
    (checkout / "conf").mkdir(parents=True)
    (checkout / "conf/config.yaml").touch()
    (checkout / "dvc.yaml").touch()
    monkeypatch.chdir(checkout / "conf")
    monkeypatch.setenv("TWINNET_MIRROR", "../a mirror" if form == "relative" else form.format(tmp_path))
    assert world.matches_truth(download_dataset(with_sources(world.dataset(), mirror=MIRROR), tmp_path))
    monkeypatch.chdir("/")
    monkeypatch.setenv("DVC_ROOT", str(checkout))
    assert world.matches_truth(download_dataset(with_sources(world.dataset(), mirror=MIRROR), tmp_path / "copy"))


def test_same_data_is_the_same_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = json_world()
    monkeypatch.setenv("TWINNET_MIRROR", str(mirror_folder(world, tmp_path / "m")))
    dataset = with_sources(world.dataset(), mirror=MIRROR)
    first = (download_dataset(dataset, tmp_path / "a") / "provenance.json").read_bytes()
    assert (download_dataset(dataset, tmp_path / "b") / "provenance.json").read_bytes() == first


def test_mirror_without_the_file_gives_way_to_the_next_source(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = json_world()
    (tmp_path / "m").mkdir()
    monkeypatch.setenv("TWINNET_MIRROR", str(tmp_path / "m"))
    download_dataset(with_sources(world.dataset(), mirror=MIRROR, upstream=good(server, world)), tmp_path)
    assert provenance.read("nba", tmp_path).source == "upstream"
    assert "mirror: no file TWINNET_MIRROR/nba/2019-20/playerindex.json" in caplog.text


@pytest.mark.parametrize("exists", [True, False])
def test_mirror_without_the_file_is_an_error_if_no_host_answers(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exists:
        (tmp_path / "m").mkdir()
    monkeypatch.setenv("TWINNET_MIRROR", str(tmp_path / "m"))
    with pytest.raises(DataError, match=r"mirror: no file .*; upstream: connection refused; set TWINNET_MIRROR"):
        download_dataset(with_sources(json_world().dataset(), mirror=MIRROR, upstream=GONE_STATS), tmp_path)
    assert not any((tmp_path / "data" / "raw").iterdir())


def test_synthetic_data_replaces_data_that_no_host_serves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    dataset = replace(json_world().dataset(), players=PLAYERS)  # type: ignore[call-arg]  # it is an NBADataset
    download_dataset(with_sources(dataset, mirror=MIRROR, upstream=GONE_STATS), tmp_path)
    record = provenance.read("nba", tmp_path)
    assert (record.source, record.licence) == ("synthetic", "MIT")
    assert record.note == provenance.SYNTHETIC_NOTE
    assert f"nba: {provenance.SYNTHETIC_NOTE}" in caplog.text
    assert "mirror: TWINNET_MIRROR is not set; upstream: connection refused" in caplog.text


def test_mirror_that_does_not_answer_counts_as_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINNET_MIRROR", "http://127.0.0.1:9")
    dataset = replace(json_world().dataset(), players=PLAYERS)  # type: ignore[call-arg]  # it is an NBADataset
    download_dataset(with_sources(dataset, mirror=MIRROR, upstream=GONE_STATS), tmp_path)
    assert provenance.read("nba", tmp_path).source == "synthetic"


def test_synthetic_data_is_refused_if_source_is_real(tmp_path: Path) -> None:
    dataset = with_sources(json_world().dataset(), SourcePolicy.real, upstream=GONE_STATS)
    with pytest.raises(DataError, match=r"upstream: connection refused.*source=synthetic"):
        download_dataset(dataset, tmp_path)


def test_synthetic_data_is_refused_if_a_host_answered(server: FaultServer, tmp_path: Path) -> None:
    dataset = with_sources(json_world().dataset(), upstream=GONE_STATS, other=json_world().source(server.address))
    with pytest.raises(DataError, match="upstream: connection refused; other: 404 Not Found"):
        download_dataset(dataset, tmp_path)


def test_synthetic_source_sends_no_request(server: FaultServer, tmp_path: Path) -> None:
    dataset = with_sources(json_world().dataset(), SourcePolicy.synthetic, upstream=good(server, json_world()))
    download_dataset(replace(dataset, players=PLAYERS), tmp_path)  # type: ignore[call-arg]  # it is an NBADataset
    assert provenance.read("nba", tmp_path).source == "synthetic"
    assert server.requests == []


def test_data_set_without_synthetic_data_says_so(tmp_path: Path) -> None:
    dataset = replace(idx_world().dataset(), stand_in=SyntheticKind.none)  # type: ignore[call-arg]  # it is an ImageDataset
    with pytest.raises(DataError, match="it has no synthetic data"):
        download_dataset(with_sources(dataset, upstream=GONE), tmp_path)


def test_rejected_files_are_saved_with_the_reason(server: FaultServer, tmp_path: Path) -> None:
    world = json_world()
    source = good(server, world)
    server.behaviours[f"/json/{world.victim}"] = fault_server.gives(lambda body: b"<html>")
    with pytest.raises(DataError):
        download_dataset(with_sources(world.dataset(), upstream=source), tmp_path)
    rejected = tmp_path / "data" / "rejected" / "nba"
    assert (rejected / "upstream-2019-20-leaguedashplayerstats.json").read_bytes() == b"<html>"
    assert "expected an answer" in (rejected / "upstream-reason.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system at /dev/shm")
def test_cache_and_rejected_may_lie_on_other_file_systems(server: FaultServer, tmp_path: Path) -> None:
    world = idx_world()
    bad = world.source(f"{server.address}/bad")
    dataset = with_sources(world.dataset(), SourcePolicy.real, bad=bad, upstream=good(server, world))
    server.files |= {f"/bad/{name}": content[:-9] for name, content in world.files.items()}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (tmp_path / "data").mkdir()
        for name in ("cache", "rejected"):
            (Path(other) / name).mkdir()
            (tmp_path / "data" / name).symlink_to(Path(other) / name)
        assert (tmp_path / "data/raw").parent.stat().st_dev != Path(other).stat().st_dev
        assert world.matches_truth(download_dataset(dataset, tmp_path))
        assert (Path(other) / "rejected/pictures/bad-X_train.gz").exists()
        assert len(list((Path(other) / "cache/pictures").iterdir())) == len(world.files)


def test_earlier_data_stays_until_new_data_is_complete(server: FaultServer, tmp_path: Path) -> None:
    world = json_world()
    dataset = with_sources(world.dataset(), upstream=good(server, world))
    target = download_dataset(dataset, tmp_path)
    server.behaviours["/json/playerindex"] = fault_server.refused("500 Oops")
    with pytest.raises(DataError):
        download_dataset(dataset, tmp_path)
    assert world.matches_truth(target)
    assert [path.name for path in target.parent.iterdir()] == ["nba"]


def test_pinned_hash_of_a_source_is_checked(server: FaultServer, tmp_path: Path) -> None:
    world = csv_world()
    pinned = replace(good(server, world), sha256={"player_index.csv": "0" * 64})
    with pytest.raises(DataError, match=r"player_index\.csv: expected the SHA-256 0000"):
        download_dataset(with_sources(world.dataset(), snapshot=pinned), tmp_path)


def test_concurrent_downloads_do_not_harm_each_other(server: FaultServer, tmp_path: Path) -> None:
    world = idx_world()
    dataset = with_sources(world.dataset(), upstream=good(server, world))
    failed: list[BaseException] = []

    def work() -> None:
        try:
            assert world.matches_truth(download_dataset(dataset, tmp_path))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [path.name for path in (tmp_path / "data" / "raw").iterdir()] == ["pictures"]
    assert len(server.requests) == len(world.files)  # the first one's; the others found the files in the cache


def test_several_seasons_and_the_playoffs(server: FaultServer, tmp_path: Path) -> None:
    """Each season is asked for and laid out by itself."""
    dataset = replace(json_world().dataset(), seasons=[2019, 2017], season_type=SeasonType.playoffs)  # type: ignore[call-arg]  # it is an NBADataset
    with pytest.raises(DataError):
        download_dataset(with_sources(dataset, upstream=json_world().source(server.address)), tmp_path)
    assert "Season=2017-18" in server.requests[0][1]
    dataset = replace(dataset, seasons=[2019, 1999], season_type=SeasonType.regular_season, source=SourcePolicy.auto)  # type: ignore[call-arg]  # it is an NBADataset
    dataset = replace(dataset, players=PLAYERS)  # type: ignore[call-arg]  # it is an NBADataset
    target = download_dataset(with_sources(dataset, upstream=GONE_STATS), tmp_path)
    assert sorted(path.name for path in target.iterdir()) == ["1999-00", "2019-20", "provenance.json"]


def test_source_that_does_not_fit_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a kind of mirror, files"):
        download_dataset(with_sources(json_world().dataset(), odd=Source(kind="ftp")), tmp_path)
    with pytest.raises(ConfigError, match="NBA seasons only"):
        download_dataset(with_sources(idx_world().dataset(), odd=GONE_STATS), tmp_path)


def test_service_gets_every_parameter_and_a_browser_s_headers(compose_suite: Callable[..., DictConfig]) -> None:
    dataset = config.dataset(compose_suite().datasets.nba)
    assert isinstance(dataset, NBADataset)
    upstream = dataset.sources["upstream"]
    index, stats = source_kind(upstream).remotes(upstream, dataset)
    assert index.address.startswith("https://stats.nba.com/stats/playerindex?")
    assert {"Historical=1", "LeagueID=00", "Season=2019-20", "Active=", "DraftYear="} <= set(
        index.address.partition("?")[2].split("&")
    )
    parameters = stats.address.partition("?")[2].split("&")
    assert {"PerMode=PerGame", "SeasonType=Regular+Season", "TwoWay=", "MeasureType=Base"} <= set(parameters)
    assert len(parameters) == 36
    assert stats.headers["Referer"] == "https://www.nba.com/"
    assert "Mozilla" in stats.headers["User-Agent"]
    assert stats.interval >= 1


def test_order_of_sources_is_that_of_conf(compose_suite: Callable[..., DictConfig]) -> None:
    composed = compose_suite().datasets
    assert list(config.dataset(composed.nba).sources) == ["mirror", "upstream", "snapshot"]
    for name in ("fashion_mnist", "mnist"):
        assert next(iter(config.dataset(composed[name]).sources)) == "mirror"


def test_stage_ends_with_one_line_and_status_1(compose_suite: Callable[..., DictConfig], tmp_path: Path) -> None:
    """The whole process, as DVC starts it: a mirror without the file, and no other source."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("src", "pipelines", "conf", "dvc.yaml", "params.yaml"):
        (project / name).symlink_to(ROOT / name)
    (project / "params.yaml").unlink()
    overrides = ["datasets.nba.sources.upstream.address=http://127.0.0.1:9/", "datasets.nba.transport.retries=0"]
    composed = compose_suite(*overrides, "~datasets.nba.sources.snapshot")
    (project / "params.yaml").write_text(config.OmegaConf.to_yaml(composed))
    environment = {**os.environ, "TWINNET_MIRROR": str(tmp_path / "nothing"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.download", "nba"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: nba: no source gave the data: mirror: no file TWINNET_MIRROR/nba/2019-20/")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stdout
    assert list((project / "data" / "raw").iterdir()) == []


def test_damaged_or_missing_provenance_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `dvc repro download@nba`"):
        provenance.read("nba", tmp_path)
    folder = tmp_path / "data" / "raw" / "nba"
    folder.mkdir(parents=True)
    for content in ("{", "[]", "{}", json.dumps({"files": [{"x": 1}]})):
        (folder / "provenance.json").write_text(content)
        with pytest.raises(DataError, match="damaged"):
            provenance.read("nba", tmp_path)


def test_folder_that_cannot_be_written_is_one_line(
    server: FaultServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = json_world()
    dataset = with_sources(world.dataset(), upstream=good(server, world))
    (tmp_path / "data").write_text("a file")
    with pytest.raises(SystemExit), exit_on_error():
        download_dataset(dataset, tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"error: expected to read or write {tmp_path}/data.*; received: \w.*", line)


def test_leftovers_of_a_killed_process_are_removed(server: FaultServer, tmp_path: Path) -> None:
    world = json_world()
    left = tmp_path / "data" / "raw" / ".nba.making-abandoned" / "nba"
    left.mkdir(parents=True)
    (left / "half.json").write_text("{")
    download_dataset(with_sources(world.dataset(), upstream=good(server, world)), tmp_path)
    assert [path.name for path in (tmp_path / "data" / "raw").iterdir()] == ["nba"]
