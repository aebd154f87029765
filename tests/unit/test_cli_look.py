"""``ckpt ls``, ``show``, ``log``, ``verify``, ``rm`` and ``sweep``: what they print and how they end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from unit.runs import Writing, make_run, start_live_run

import ckpt
from ckpt.cli import cli
from ckpt.cli.render import moment_text
from ckpt.format.records import Kind
from ckpt.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def call(store: Path) -> Callable[..., Result]:
    def run(command: str, *words: str, **more: Any) -> Result:
        return CliRunner().invoke(cli, [command, "--store", str(store), *words], **more)

    return run


def test_ls_shows_every_run_with_its_status(store: Path, call: Callable[..., Result]) -> None:
    make_run(store, "sim", "aaaa")
    make_run(store, "crawl", "bbbb", status="failed")
    make_run(store, "etl[red]", "cccc", status=None)
    result = call("ls")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["crawl/bbbb", "failed"],
        ["etl[red]/cccc", "crashed"],
        ["sim/aaaa", "finished"],
    ]
    assert "t 4/9" in lines[1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0, "0 s ago"), (-9, "0 s ago"), (0.25, "250 ms ago"), (11220, "3 h ago")]
)
def test_moments_are_given_in_their_largest_unit(seconds: float | None, text: str) -> None:
    assert moment_text(None if seconds is None else 1e9 - seconds, 1e9) == text


def test_ls_in_a_pipe_lines_its_columns_up(store: Path, call: Callable[..., Result]) -> None:
    make_run(store, "a_rather_long_name", "aaaa", status=None)
    make_run(store, "sim", "bbbb", status="failed")
    heading, *rows = call("ls").output.splitlines()
    assert len({row.index("t 4/9") for row in rows} | {heading.index("position")}) == 1
    assert len({row.index(" ago") for row in rows}) == 1


def test_ls_json_holds_everything_that_the_table_shows(store: Path, call: Callable[..., Result]) -> None:
    make_run(store)
    (run,) = json.loads(call("ls", "--json").output)
    assert (run["address"], run["status"], run["attempts"], run["checkpoints"]) == ("sim/aaaa", "finished", 1, 2)
    assert run["nbytes"] > 0


def test_an_empty_store_is_said_to_be_empty(store: Path, call: Callable[..., Result]) -> None:
    make_run(store)
    assert call("rm", "--yes", "sim").exit_code == 0
    result = call("ls")
    assert (result.exit_code, result.output) == (0, f"no runs in {store}\n")
    assert json.loads(call("ls", "--json").output) == []


def test_the_store_comes_from_the_environment_or_the_working_folder(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(store, "named")
    make_run(tmp_path / ".ckpt", "default")
    monkeypatch.chdir(tmp_path)
    assert "default/aaaa" in CliRunner().invoke(cli, ["ls"]).output
    assert "named/aaaa" in CliRunner().invoke(cli, ["ls"], env={"CKPT_STORE": str(store)}).output


def test_a_wrong_key_is_told_from_damage_and_ends_ls_and_verify_with_status_4(
    store: Path, call: Callable[..., Result]
) -> None:
    make_run(store)
    wrong = {"CKPT_KEY": "ab" * 32}
    listed, verified = call("ls", env=wrong), call("verify", env=wrong)
    assert (listed.exit_code, verified.exit_code) == (4, 4)
    (line,) = listed.output.splitlines()[1:]
    assert line.startswith("sim/aaaa  other key  the segment was signed with the key ")
    assert "1 run verified: 1 problem" in verified.output
    (run,) = json.loads(call("ls", "--json", env=wrong).output)
    assert run["status"] == "other key"
    assert (call("ls").exit_code, call("verify").exit_code) == (0, 0)


def test_show_tells_attempts_checkpoints_costs_state_and_result(store: Path, call: Callable[..., Result]) -> None:
    make_run(store, status=None)
    writing = Writing.start(store)
    writing.number = 2
    writing.checkpoint(6, stall_s=0.1, interval_s=2.0)
    writing.end("finished")
    text = call("show", "sim").output
    for words in [
        "sim/aaaa",
        "steps=9",
        "t 6/9",
        "float (recorded in 24 B)",
        "9 ms of 4.5 s (0.20 %) of the last attempt; 0.40 % with",
        "sim.total",
        "sim.log",
        "made again",
        "97.7 KiB",
        "nothing since the last checkpoint",
        "started again",
    ]:
        assert words in text, words
    assert re.search(r" 1  crashed .* ago  last heard of after ", text)
    assert [line.split()[1] for line in text.split("Attempts")[1].splitlines()[2:4]] == ["crashed", "finished"]


def test_show_tells_what_the_last_state_was_in_one_line(store: Path, call: Callable[..., Result]) -> None:
    writing = Writing.start(store)
    writing.checkpoint(3, captured={"t.x": 24, "t.n": -1}, remade=[])
    writing.end(None)
    lines = call("show", "sim").output.splitlines()
    at = lines.index("State in checkpoint 1")
    assert [line.split() for line in lines[at + 2 : at + 4]] == [["t.x", "24", "B"], ["t.n", "-"]]
    assert lines[at + 4].startswith("-: no array")
    writing = Writing.start(store)
    writing.number = 1
    writing.checkpoint(6, captured={"t.x": 24}, remade=[])
    writing.end("finished")
    lines = call("show", "sim").output.splitlines()
    assert "State in checkpoint 2, which is not kept any more" in lines
    assert not any("no array" in line for line in lines)


def test_show_of_a_run_without_variables_has_no_empty_table(store: Path, call: Callable[..., Result]) -> None:
    writing = Writing.start(store)
    writing.checkpoint(3, captured={}, remade=[])
    writing.end(None)
    text = call("show", "sim").output
    assert "State in" not in text
    assert "variable" not in text


def test_show_of_a_killed_run_gives_the_cost_that_its_checkpoints_tell(
    store: Path, call: Callable[..., Result]
) -> None:
    make_run(store, status=None)
    assert "2 ms of 2.0 s (0.10 %)" in call("show", "sim").output


def test_show_json_can_be_read_back(store: Path, call: Callable[..., Result]) -> None:
    make_run(store, status="failed")
    info = json.loads(call("show", "sim", "--json").output)
    assert info["outcome"]["error"] == "ValueError: no"
    assert [checkpoint["position"] for checkpoint in info["checkpoints"]] == ["t 1/9", "t 4/9"]
    assert info["operations"] == 1


def test_log_has_one_line_for_each_record(store: Path, call: Callable[..., Result]) -> None:
    make_run(store)
    lines = [line.split() for line in call("log", "sim").output.splitlines()]
    assert [line[1] for line in lines if line[1] != "seal"] == [
        "fence",
        "checkpoint",
        "checkpoint",
        "operation",
        "status",
    ]
    records = [json.loads(line) for line in call("log", "sim", "--json").output.splitlines()]
    assert [record["lsn"] for record in records] == [line[0] for line in lines]
    assert records[-1]["head"]["status"] == "finished"


def test_log_follow_shows_what_is_added_and_ends_with_the_run(store: Path) -> None:
    writing = Writing.start(store)
    process = subprocess.Popen(
        [sys.executable, "-m", "ckpt", "log", "--store", str(store), "sim", "--follow"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(["", *sys.path])},
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any("fence" in line for line in lines)
    writing.operation("first")
    assert any("first" in line for line in lines)
    time.sleep(0.1)
    writing.end("finished")
    assert "finished" in list(lines)[-1]
    assert process.wait() == 0


def test_verify_ends_with_status_1_only_for_problems(store: Path, call: Callable[..., Result]) -> None:
    make_run(store, status=None)
    make_run(store, run_id="bbbb")
    result = call("verify")
    assert (result.exit_code, result.output) == (0, "2 runs verified: all good\n")
    (store / "sim/aaaa/pack/1-9.pack").write_bytes(b"nobody needs this")
    result = call("verify")
    assert result.exit_code == 0
    assert "note: sim/aaaa/pack/1-9.pack at byte 0" in result.output
    (store / "sim/aaaa/pack/1-0.pack").unlink()
    result = call("verify", "sim/aaaa")
    assert result.exit_code == 1
    assert "problem: sim/aaaa/pack/1-0.pack at byte 0: the pack is missing" in result.output
    assert "1 run verified: 1 problem\n" in result.output
    assert "note: sim/aaaa: all the same the run can go on at checkpoint 1 (" in result.output
    assert [finding["serious"] for finding in json.loads(call("verify", "--json").output)] == [True, False, False]
    (segment,) = (store / "sim/aaaa/log").iterdir()
    segment.write_bytes(segment.read_bytes()[:40] + b"?" + segment.read_bytes()[41:])
    assert "the run cannot go on as it is: `ckpt repair sim/aaaa --dry-run` says" in call("verify", "sim/aaaa").output
    assert call("verify", "sim/bbbb").exit_code == 0


def test_rm_asks_and_takes_no_for_an_answer(store: Path, call: Callable[..., Result]) -> None:
    make_run(store)
    result = call("rm", "sim", input="n\n")
    assert "remove sim/aaaa for good?" in result.output
    assert result.exit_code == 1
    assert "sim/aaaa" in call("ls").output
    assert call("rm", "sim", input="y\n").exit_code == 0
    assert "sim/aaaa" not in call("ls").output


def test_rm_of_a_live_run_ends_with_status_3_and_names_the_holder(store: Path, call: Callable[..., Result]) -> None:
    process = start_live_run(store, "sim", "aaaa")
    try:
        result = call("rm", "--yes", "sim")
        assert result.exit_code == 3
        assert str(process.pid) in result.stderr
    finally:
        process.kill()
        process.wait()
    assert call("rm", "--yes", "sim").exit_code == 0


def test_sweep_names_what_it_removed(store: Path, call: Callable[..., Result]) -> None:
    make_run(store, status=None)
    (store / "sim/aaaa/pack/1-9.pack").write_bytes(b"0123456789")
    result = call("sweep")
    assert result.output == "removed sim/aaaa/pack/1-9.pack\n1 keys removed, 10 B freed\n"
    assert json.loads(call("sweep", "--json").output) == {"keys": [], "nbytes": 0, "skipped": []}


@pytest.mark.parametrize("words", [("show", "nothing"), ("log", "nothing"), ("rm", "--yes", "nothing")])
def test_an_unknown_run_is_a_message_and_status_2(
    words: tuple[str, ...], store: Path, call: Callable[..., Result]
) -> None:
    make_run(store)
    result = call(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "ckpt: nothing: no such run" in result.stderr
    assert "sim/aaaa" in result.stderr
    assert "fix:" in result.stderr


def test_a_missing_store_is_a_message_and_status_2(store: Path, call: Callable[..., Result]) -> None:
    result = call("ls")
    assert result.exit_code == 2
    assert "no ckpt store" in result.stderr
    assert not store.exists()


def test_what_must_not_be_trusted_is_a_message_and_status_4(store: Path, call: Callable[..., Result]) -> None:
    make_run(store)
    (store / "key").write_text("ab" * 32 + "\n")
    result = call("show", "sim")
    assert result.exit_code == 4
    assert "key" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_pipe_gets_plain_text_that_nothing_cuts(store: Path, call: Callable[..., Result]) -> None:
    job = "a" * 150
    make_run(store, job)
    text = call("ls").output + call("show", job).output
    assert f"{job}/aaaa" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [20, 40, 79, 80, 200])
def test_a_terminal_of_any_width_shows_the_whole_address(
    width: int, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from ckpt.cli.render import print_run, runs_table
    from ckpt.store import Store

    make_run(store, "simulation_of_something_long")
    out = Console(width=width, record=True, force_terminal=True, file=open(os.devnull, "w"))  # noqa: SIM115
    out.print(runs_table(Store(store).list(), 0.0, width))
    print_run(out, Store(store).open("simulation_of_something_long"), 0.0)
    text = out.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    assert "finished" in text
    if width >= 79:
        assert "simulation_of_something_long/aaaa" in text


def test_each_command_explains_itself() -> None:
    for name, command in cli.commands.items():
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0
        assert command.help
    assert CliRunner().invoke(cli, ["--version"]).output.startswith("ckpt, version ")


def test_show_tells_the_trigger_and_the_interval_that_it_had_come_to(store: Path, call: Callable[..., Result]) -> None:
    writing = Writing.start(store, every="auto")
    writing.checkpoint(3, wait_s=1.5)
    writing.end()
    assert "auto, which is each 1.5 s at the newest" in call("show", "sim").output


def test_show_of_a_finished_job_keeps_no_checkpoint(store: Path, call: Callable[..., Result]) -> None:
    make_run(store)
    assert [one.kept for one in Store(store).open("sim").checkpoints] == [False, False]
    refused = call("fork", "sim", "--at", "1")
    assert refused.exit_code == 2
    assert "only its result is kept" in refused.stderr


def test_what_is_recorded_is_called_by_its_kind(store: Path, call: Callable[..., Result]) -> None:
    writing = Writing.start(store)
    writing.checkpoint(0, path=[], where="start")
    head = {"map": "00", "step": "fetch", "where": "", "items": 70, "outcome": "ok", "bytes": 4, "failed": []}
    writing.log.append(Kind.OPERATION, head, [b"", b""])
    writing.operation()
    writing.end()
    assert Store(store).list()[0].position == "start, 70 items recorded"
    assert Store(store).open("sim").recorded == {"items": 70, "steps": 1}
    assert "70 items, 1 step since the last checkpoint" in call("show", "sim").output


def only_even(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


def test_finished_run_that_retry_opened_is_listed_as_reopened(store: Path, call: Callable[..., Result]) -> None:
    @ckpt.job(name="sim", store=store)
    def evens() -> int:
        return sum(not isinstance(one, ckpt.Failed) for one in ckpt.map(only_even, range(4), on_error="collect"))

    assert evens() == 2
    assert call("retry", "sim", "--failed").exit_code == 0
    info = Store(store).open("sim")
    assert (info.summary.status, info.attempts[0].status) == ("reopened", "reopened")
    assert info.outcome is None, "its result does not count any more"


def test_reopened_run_is_listed_as_such_where_its_beginning_was_trimmed_away(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"

    @ckpt.job(name="sim", store=url)
    def evens() -> int:
        return sum(not isinstance(one, ckpt.Failed) for one in ckpt.map(only_even, range(4), on_error="collect"))

    evens()
    Store(url, unsigned=True).retry("sim")
    assert Store(url, unsigned=True).open("sim").summary.status == "reopened"
