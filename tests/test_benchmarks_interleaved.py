"""The arithmetic of the benchmarks: rounds, ratios, peers that are not there. Nothing is timed here."""

import json
from pathlib import Path

import pytest

from benchmarks import interleaved
from benchmarks.problems import players
from benchmarks.textbook import Textbook
from twinnet.core import engine
from twinnet.core.monitor import Monitor

PEERS = """
import time
ran = []
def quick():
    return work(0.002)
def slow():
    return work(0.02)
def work(seconds):
    print("a library that prints")
    def do():
        time.sleep(seconds)
        return 2
    return do
def absent():
    import no_such_library
"""

NOISY = """
import sys
print("a note", file=sys.stderr)
def quiet():
    return lambda: 1
def broken():
    raise OSError("full")
"""


def test_ratio_is_peer_over_own_and_an_absent_peer_is_told(tmp_path: Path) -> None:
    (tmp_path / "made_up_peers.py").write_text(PEERS)
    path = {"PYTHONPATH": str(tmp_path)}
    peers = [interleaved.Peer(name, f"made_up_peers:{name}", path) for name in ("quick", "slow", "absent")]
    result = interleaved.measure(interleaved.Row("sleep", "nap", peers, {"slow": 2}, {"slow": 8}, rounds=3))
    assert {name: len(seconds) for name, seconds in result["seconds"].items()} == {"quick": 3, "slow": 3}
    assert 2 < result["ratios"]["slow"]["best"] < 11  # 10, less what a busy machine adds to the short one
    assert result["ratios"]["slow"]["ratio"] > 2
    assert min(result["seconds"]["slow"]) >= 0.01  # of one unit
    assert "no_such_library" in result["skipped"]["absent"]
    interleaved.keep([result], tmp_path / "bench")
    assert json.loads((tmp_path / "bench" / "sleep.json").read_text()) == result
    printed = interleaved.table([result])
    assert "| sleep | quick | slow |" in printed
    assert "absent was left out" in printed


def test_what_a_process_wrote_is_shown_if_it_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "noisy_peers.py").write_text(NOISY)
    path = {"PYTHONPATH": str(tmp_path)}
    quiet, broken = (interleaved.Peer(name, f"noisy_peers:{name}", path) for name in ("quiet", "broken"))
    interleaved.measure(interleaved.Row("calm", "x", [quiet], {}, {}, rounds=1))
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError, match="broken: its process ended with status 1"):
        interleaved.measure(interleaved.Row("fails", "x", [broken], {}, {}, rounds=1))
    assert "OSError: full" in capfd.readouterr().err


def test_a_peer_has_a_size_and_may_count_seconds_and_files(tmp_path: Path) -> None:
    (tmp_path / "sized_peer.py").write_text(
        "def sized(size):\n    return lambda: (size, 3.0, {'files': 2 * size, 'none': 0})\n"
    )
    peers = [interleaved.Peer(size, f"sized_peer:sized:{size}", {"PYTHONPATH": str(tmp_path)}) for size in ("3", "30")]
    result = interleaved.measure(interleaved.Row("sized", "x", peers, {}, {}, rounds=1, kind="growth"))
    assert result["seconds"] == {"3": [1.0], "30": [0.1]}
    printed = interleaved.table([result])
    assert "| x: files | 3: 6; 30: 60 | 1.00 |" in printed
    assert "none" not in printed


def test_peers_of_one_process_take_turns_in_it(tmp_path: Path) -> None:
    (tmp_path / "two_peers.py").write_text(PEERS)
    peers = [interleaved.Peer(name, f"two_peers:{name}", {"PYTHONPATH": str(tmp_path)}) for name in ("quick", "slow")]
    result = interleaved.measure(interleaved.Row("sleep", "nap", peers, {}, {}, rounds=3, one_process=True))
    assert 2 < result["ratios"]["slow"]["best"] < 11


def test_a_peer_that_ends_is_an_error_not_a_number(tmp_path: Path) -> None:
    (tmp_path / "ending_peer.py").write_text("def end():\n    raise SystemExit(3)\n")
    peer = interleaved.Peer("end", "ending_peer:end", {"PYTHONPATH": str(tmp_path)})
    with pytest.raises(RuntimeError, match="end: its process ended with status 3"):
        interleaved.measure(interleaved.Row("end", "x", [peer], {}, {}))


def test_rows_are_chosen_by_name_and_a_failed_row_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from benchmarks import __main__ as command

    asked = []

    def measure(row: interleaved.Row) -> dict:
        asked.append(row.name)
        if row.name == "batch":
            raise RuntimeError("its peer ended")
        seconds = {"10": [1.0], "100": [5.0], "1,000": [500.0]} if row.kind == "growth" else {"a": [1.0]}
        return {
            "row": row.name, "kind": row.kind, "unit": row.unit, "own": "a", "note": "", "at_least": row.at_least,
            "seconds": seconds, "ratios": {}, "skipped": {},
        }  # fmt: skip

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "BENCH", tmp_path)
    monkeypatch.setattr("sys.argv", ["benchmarks", "tiny", "tracking_nba"])
    command.main()
    assert asked == ["tiny", "tracking_nba"]
    monkeypatch.setattr("sys.argv", ["benchmarks", "batch", "sweep", "growth_jobs"])
    with pytest.raises(SystemExit, match="failed: batch"):
        command.main()
    printed = (tmp_path / "table.md").read_text()
    assert "| sweep | a | 1 |" in printed
    assert "| jobs | 10: 1.00 s; 100: 5.00 s; 1,000: 500.00 s | 2.00 |" in printed
    assert (tmp_path / "growth.png").stat().st_size > 1000
    assert json.loads((tmp_path / "sweep.json").read_text())["kind"] == "seconds"
    monkeypatch.setattr("sys.argv", ["benchmarks", "tinny"])
    with pytest.raises(SystemExit):
        command.main()
    assert "expected any of tiny, reference" in capsys.readouterr().err


def test_the_textbook_peer_computes_what_the_reference_computes() -> None:
    problem = players("numpy", 50)
    losses, accuracies = Textbook([2, 4, 1], seed=0).fit(problem.X_train, problem.y_train, 50, 0.001)
    fitted = engine.fit(problem, monitor := Monitor("accuracy"))
    history = monitor.history.arrays()
    assert history["train/loss"] == pytest.approx(losses, rel=1e-14)
    assert history["train/accuracy"].tolist() == pytest.approx(accuracies)
    assert fitted.predict(problem.X_valid).shape == (175, 1)
