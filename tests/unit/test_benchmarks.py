"""The benchmarks as such: what a row says, that nothing is hidden, and that the ideal under kills is the ideal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

pytest.importorskip("numpy")

from benchmarks import __main__ as command
from benchmarks import rivals
from benchmarks.environments import CannotInstall
from benchmarks.goodput import Costs, ideal_s
from benchmarks.harness import Bench, Row, compare, interleave, not_measured
from benchmarks.table import text


@pytest.mark.parametrize(
    ("target", "floor", "met"),
    [(0.5, None, True), (0.49, None, False), (None, 0.5, True), (None, 0.51, False), (None, None, None)],
)
def test_a_row_says_whether_its_promise_is_met(target: float | None, floor: float | None, met: bool | None) -> None:
    row = compare("m", [1.0, 3.0, 2.0], ("peer", [2.0, 6.0, 4.0]), target=target, floor=floor)
    assert (row.ratio, row.met) == (0.5, met)
    said = text({"group": [row]})
    assert ("missed" in said) == (met is False)
    assert ("met" in said.replace("missed", "").splitlines()[-1]) == (met is True)


def test_what_was_not_measured_is_neither_met_nor_hidden() -> None:
    row = not_measured("m", "no server")
    assert row.met is None
    assert "no server" in text({"group": [row]})


def test_cases_take_turns_in_both_directions() -> None:
    called: list[str] = []
    cases = {name: lambda name=name: called.append(name) or 1.0 for name in "ab"}
    assert interleave(3, cases) == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert "".join(called) == "abbaab"


def test_a_group_that_fails_is_a_row_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(bench: Bench) -> list[Row]:
        raise RuntimeError("no such disk")

    def fine(bench: Bench) -> list[Row]:
        return [compare("fine", [1.0], ("peer", [2.0]))]

    monkeypatch.setattr(command, "GROUPS", {"broken": broken, "fine": fine})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--json", str(tmp_path / "r.json")])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "RuntimeError: no such disk" in printed
    assert "load" in printed
    written = json.loads((tmp_path / "r.json").read_text())
    assert [(row["group"], row["rounds"]) for row in written["rows"]] == [("broken", 0), ("fine", 1)]
    assert set(written["machine"]["loads"]) == {"broken", "fine"}


def test_peers_that_fail_or_cannot_be_installed_are_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def python_with(packages: tuple[str, ...], *, install: bool) -> Path:
        if "torch==2.13.0" in packages:
            raise CannotInstall("no network")
        return Path(sys.executable)

    def peer(bench: Bench, python: Path, program: str, name: str, size: int) -> dict[str, float]:
        if name == "orbax":
            raise RuntimeError("no such device")
        return dict.fromkeys(rivals.ASPECTS, 2.0)

    monkeypatch.setattr(rivals, "python_with", python_with)
    monkeypatch.setattr(rivals, "_peer", peer)
    monkeypatch.setattr(rivals, "_ours", lambda *_: dict.fromkeys(rivals.ASPECTS, 1.0))
    rows = rivals.measure_saving(Bench(True, tmp_path))
    missing = {row.measure.partition(": ")[2]: row.note for row in rows if row.rounds == 0}
    assert missing == {
        "torch.save 2.13.0": "no network",
        "torch DCP async_save 2.13.0": "no network",
        "Orbax 0.12.8 async": "failed: no such device",
    }
    the_disk = 1
    assert len(rows) - len(missing) == len(rivals.ASPECTS) * (len(rivals.SAVING) - 3) + the_disk


COSTS = Costs(step_s=0.1, stall_s=0.2, persist_s=0.5, start_s=1.0)


def test_without_kills_the_ideal_pays_for_a_start_and_its_checkpoints() -> None:
    count = 3
    useful_s = COSTS.every_s * (count + 0.5)
    assert ideal_s(COSTS, useful_s, []) == pytest.approx(1.0 + useful_s + count * 0.2)


def test_a_kill_costs_the_ideal_what_was_not_durable_yet() -> None:
    every_s = COSTS.every_s
    useful_s = every_s * 1.5
    whole_s = 1.0 + every_s + 0.2 + every_s * 0.5
    durable_s = 1.0 + every_s + 0.2 + 0.5
    assert ideal_s(COSTS, useful_s, [durable_s + 0.01]) == pytest.approx(durable_s + 0.01 + 1.0 + every_s * 0.5)
    assert ideal_s(COSTS, useful_s, [durable_s - 0.01]) == pytest.approx(durable_s - 0.01 + whole_s)


def test_the_programs_of_peers_say_what_is_compared(tmp_path: Path) -> None:
    program = ROOT / "benchmarks" / "peers" / "saving.py"
    command = [sys.executable, str(program), "pickle_synced", "1", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(rivals.ASPECTS) | {"equal", "bytes_full"} == set(said)
    assert said["equal"] is True
    assert said["bytes_small"] >= 1 << 20


def test_our_own_program_says_the_same_of_ckpt(tmp_path: Path) -> None:
    said = rivals._ours(Bench(True, tmp_path), "saving", 1)
    assert set(rivals.ASPECTS) <= set(said)
    assert 0 < said["stall_small"] <= said["total_small"]
    assert not os.listdir(tmp_path)


def test_pictures_are_drawn_from_results(tmp_path: Path) -> None:
    if os.environ.get("CKPT_TEST_REQUIRE") != "all":
        pytest.importorskip("matplotlib")
    rows = [
        {"group": "limits", "measure": "m", "peer": "p", "ratio": 2.0, "low": 0.9, "high": 2.5, "note": "", "target": 1.0, "floor": None, "met": False, "rounds": 5},
        {"group": "goodput", "measure": "g", "peer": "p", "ratio": 0.97, "low": 0.9, "high": 2.5, "note": "", "target": None, "floor": 0.95, "met": True, "rounds": 5},
        {"group": "peers", "measure": "stall", "peer": "other", "ratio": 0.5, "target": 1.0, "floor": None, "met": True, "rounds": 5},
        {"group": "peers", "measure": "x", "peer": "", "note": "no net", "ratio": 0.0, "target": None, "floor": None, "met": None, "rounds": 0},
    ]  # fmt: skip
    results = tmp_path / "r.json"
    results.write_text(json.dumps({"machine": {"processors": 2}, "rows": rows}))
    command = [sys.executable, "-m", "benchmarks.pictures", str(results), str(tmp_path / "out")]
    subprocess.run(command, check=True, cwd=ROOT)
    assert "<svg" in (tmp_path / "out" / "targets.svg").read_text()
    assert "<svg" in (tmp_path / "out" / "peers.svg").read_text()
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "| m | p | 2 (0.9 to 2.5) | <= 1 | **missed** |" in summary
    assert "| g | p | 0.97 (0.9 to 2.5) | >= 0.95 | met |" in summary
    assert "not measured: x (no net)" in summary
