"""Forks and resets from old checkpoints, what differs between two, and runs that age out."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from programs.ticks import settle
from unit.runs import Interrupted, Writing, interrupt_after, make_run, start_live_run

import ckpt
from ckpt.cli.main import cli
from ckpt.errors import CorruptionError, OptionError, ReplayDivergedError, RunBusyError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.history import history_of
from ckpt.host import SystemClock
from ckpt.log import read_log
from ckpt.recovery import find_resume_point
from ckpt.root import StoreRoot
from ckpt.snapshot import read_snapshot
from ckpt.store import Store
from ckpt.store.branching import fork_run, reset_run


class Dies(Exception):
    """The job stops here; it can be resumed."""


CALLS: list[int] = []


@ckpt.step
def fetch(i: int) -> int:
    CALLS.append(i)
    return i * i


@ckpt.job(every="1it", keep=4, name="grow", key="origin")
def grow(n: int) -> Any:
    rng = np.random.default_rng(3)
    field, fixed, seen = np.zeros(20_000), np.arange(20_000.0), []
    for i in ckpt.loop(range(n)):
        field += rng.standard_normal(field.size)
        seen.append(fetch(i))
        settle()
        if i == 7 and os.path.exists("die"):
            raise Dies
    return float(field.sum()), float(fixed.sum()), seen


@pytest.fixture(autouse=True)
def here(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scratch)
    monkeypatch.setenv("CKPT_EVERY", "1it")
    monkeypatch.delenv("CKPT_KEY", raising=False)


@pytest.fixture(params=["local", "memory", "encrypted"])
def store(request: pytest.FixtureRequest, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    url = f"memory://branch-{scratch.name}" if request.param == "memory" else str(scratch / "store")
    if request.param == "encrypted":
        monkeypatch.setenv("CKPT_ENCRYPT", "1")
    monkeypatch.setenv("CKPT_STORE", url)
    return Store(url)


def died(job: Any = grow, *arguments: Any) -> None:
    Path("die").touch()
    with pytest.raises(Dies):
        job(*(arguments or (10,)))
    Path("die").unlink()


def kept(store: Store, address: str) -> list[int]:
    return [one.number for one in store.open(address).checkpoints]


def plain(monkeypatch: pytest.MonkeyPatch, job: Any = grow, *arguments: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setenv("CKPT_DISABLE", "1")
        return job(*(arguments or (10,)))


def test_fork_of_any_kept_checkpoint_goes_on_from_there_without_its_origin(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain(monkeypatch)
    died()
    numbers = kept(store, "grow/origin")
    assert len(numbers) >= 4
    made = [store.fork("grow/origin", at=number) for number in numbers[-4:]]
    assert [one.checkpoint for one in made] == numbers[-4:]
    named = store.fork("grow", run_id="mine") if len(store.addresses()) == 1 else store.fork("grow/origin", run_id="mine")
    assert (named.address, named.checkpoint) == ("grow/mine", numbers[-1])
    store.remove("grow/origin")
    store.sweep()
    assert store.verify() == []
    for one in [*made, named]:
        CALLS.clear()
        assert grow.options(run_id=one.address.partition("/")[2])(10) == expected
        first = CALLS[0] if CALLS else 10
        assert first == one.checkpoint - numbers[-1] + 7, "the steps behind the checkpoint are executed again, no others"
        begun, *_, ended = store.open(one.address).attempts
        assert (begun.status, ended.status) == ("forked", "finished"), "number 1 is the fork itself, and no attempt"
    assert store.verify() == []


def test_fork_that_dies_anywhere_is_no_run_and_can_be_repeated(store: Store) -> None:
    died()
    names, new = RunNames("grow", "origin"), "grow/fork"
    for calls in range(100):
        root = StoreRoot.open(store.url)
        broken = replace(root, storage=interrupt_after(calls, root.storage))
        try:
            fork_run(broken, names, SystemClock(), number=None, run_id="fork")
        except Interrupted:
            pass
        else:
            break
        there = {run.address: run for run in store.list()}
        if new in there and there[new].checkpoints:
            assert there[new].status == "forked"
            assert store.verify(new) == []
            store.remove(new)
        assert store.verify("grow/origin") == []
        if calls % 2:
            store.sweep()
            assert new not in store.addresses()
        else:  # what the interrupted one left is in nobody's way
            store.fork("grow/origin", run_id="fork")
            store.remove(new)
    assert calls > 5
    assert store.verify(new) == []


def test_fork_is_refused_where_there_is_a_run_or_no_checkpoint(store: Store) -> None:
    died()
    for given in ({"run_id": "origin"}, {"at": 77}):
        with pytest.raises(OptionError):
            store.fork("grow/origin", **given)  # type: ignore[arg-type]
    grow(10)
    with pytest.raises(OptionError, match="finished"):
        store.fork("grow/origin")


def test_fork_of_a_live_run_leaves_it_alone(tmp_path: Path) -> None:
    process = start_live_run(tmp_path / "store", "sim", "aaaa")
    try:
        made = Store(tmp_path / "store").fork("sim/aaaa")
        assert made.address == "sim/aaaa-at-1"
        with pytest.raises(RunBusyError):
            Store(tmp_path / "store").reset("sim/aaaa", to=1)
        assert Store(tmp_path / "store").open("sim/aaaa").alive
    finally:
        process.kill()
        process.wait()


def test_run_that_is_reset_goes_on_from_the_old_checkpoint(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(monkeypatch)
    died()
    numbers = kept(store, "grow/origin")
    assert store.reset("grow/origin", to=numbers[-3]) == numbers[-1] + 1
    assert store.verify() == []
    CALLS.clear()
    assert grow(10) == expected
    assert CALLS == [5, 6, 7, 8, 9]


def test_reset_that_dies_anywhere_has_happened_or_not(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(monkeypatch)
    died()
    numbers = kept(store, "grow/origin")
    for calls in range(100):
        root = StoreRoot.open(store.url)
        broken = replace(root, storage=interrupt_after(calls, root.storage, WRITES))
        try:
            reset_run(broken, RunNames("grow", "origin"), SystemClock(), number=numbers[-3])
        except Interrupted:
            assert store.verify() == []
            newest = store.open("grow/origin").checkpoints[-1]
            assert newest.number == numbers[-1] or newest.reason == "reset"
        else:
            break
    assert calls >= 2
    assert grow(10) == expected


WRITES = ("put", "put_if_absent", "create_append", "delete", "make_durable")


def test_reset_is_refused_over_damage_and_where_there_is_nothing_to_go_back_to(scratch: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CKPT_STORE", str(scratch / "store"))
    store = Store(scratch / "store")
    make_run(scratch / "store", status=None)
    with pytest.raises(OptionError, match="kept: 1, 2"):
        store.reset("sim/aaaa", to=9)
    (log,) = (scratch / "store").glob("sim/aaaa/log/*.log")
    whole = log.read_bytes()
    log.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    before = {path: path.read_bytes() for path in (scratch / "store").rglob("*.*")}
    with pytest.raises(CorruptionError, match="nothing was changed"):
        store.reset("sim/aaaa", to=1)
    assert {path: path.read_bytes() for path in (scratch / "store").rglob("*.*")} == before
    died()
    grow(10)
    with pytest.raises(OptionError, match="finished"):
        store.reset("grow/origin", to=8)


def block(run_id: str, *, dies: bool = False) -> Any:
    """(what its logged objects hold at the end, the items that this attempt went through)."""
    ran = []
    with ckpt.open("block", run_id=run_id, keep=4) as run:
        rows, table = run.list("rows"), run.dict("table")
        for i in run.loop(range(9)):
            ran.append(i)
            rows.append(i)
            table[i % 3] = i
            if i % 2:
                run.checkpoint()
            if dies and i == 7:
                raise Dies
        return (list(rows), dict(table)), ran


def square(i: int) -> int:
    CALLS.append(i)
    return i * i


@ckpt.job(name="mapped", key="a", keep=4)
def mapped(n: int) -> list[int]:
    found = []
    for result in ckpt.loop(ckpt.map(square, range(n), max_workers=1)):
        found.append(result)
        settle()
        if len(found) == 8 and os.path.exists("die"):
            raise Dies
    return found


def branch(way: str, store: Store, address: str) -> str:
    """The id of a run that goes on from the third last checkpoint of the run at ``address``."""
    number = kept(store, address)[-3]
    if way == "reset":
        store.reset(address, to=number)
        return address.rpartition("/")[2]
    made = store.fork(address, at=number)
    store.remove(address)
    return made.address.rpartition("/")[2]


@pytest.mark.parametrize("way", ["fork", "reset"])
def test_logged_state_goes_back_to_the_old_checkpoint_with_everything_else(way: str, store: Store) -> None:
    with pytest.raises(Dies):
        block("a", dies=True)
    run_id = branch(way, store, "block/a")
    found, ran = block(run_id)
    assert found == ([*range(9)], {0: 6, 1: 7, 2: 8})
    assert 0 < ran[0] < 7
    assert store.verify() == []


@pytest.mark.parametrize("way", ["fork", "reset"])
def test_results_of_a_map_are_those_of_the_old_checkpoint(way: str, store: Store) -> None:
    died(mapped)
    run_id = branch(way, store, "mapped/a")
    CALLS.clear()
    assert mapped.options(run_id=run_id)(10) == [i * i for i in range(10)]
    assert 0 not in CALLS
    assert store.verify() == []


def test_operations_behind_the_checkpoint_that_a_run_is_reset_to_do_not_count(tmp_path: Path) -> None:
    writing = Writing.start(tmp_path / "store")

    def record(name: str) -> None:
        writing.log.append(Kind.OPERATION, {"map": name, "id": "00"}, [b""])

    before = writing.log.position
    record("first")
    writing.checkpoint(1, maps_since=before)
    record("second")
    writing.checkpoint(2, maps_since=before)
    record("third")
    writing.end()
    Store(tmp_path / "store").reset("sim/aaaa", to=1)
    root = StoreRoot.open(tmp_path / "store")
    again = Writing.start(tmp_path / "store")
    again.log.append(Kind.OPERATION, {"map": "fourth", "id": "00"}, [b""])
    again.end()
    view = read_log(root.storage, again.names, root.key)
    point = find_resume_point(
        view, history_of(view.records), again.names, lambda ref: read_snapshot(ref, root.storage, again.names, root.key)
    )
    assert point is not None
    assert (point.head["number"], point.head["reset_to"]) == (3, 1)
    assert [one.head["map"] for one in point.maps] == ["first", "fourth"]


def test_diff_names_what_differs_and_what_it_takes(store: Store) -> None:
    died()
    a, b = (f"grow/origin@{number}" for number in kept(store, "grow/origin")[-2:])
    found = store.diff(a, b)
    assert (found.a, found.b) == (a, b)
    changes = {entry.name.rpartition(".")[2]: entry.change for entry in found.entries}
    assert changes["field"] == "changed"
    assert "fixed" not in changes
    assert changes["seen"] == "unknown"
    assert [(one.a, one.b) for one in found.entries if one.name.endswith(".seen")] == [(None, None)]
    assert found.shared_nbytes >= 160_000
    assert found.only_a_nbytes >= 160_000 <= found.only_b_nbytes
    assert store.diff(a, a).entries == ()
    fork = store.fork("grow/origin")
    same = store.diff(b, fork.address)
    assert (same.entries, same.only_a_nbytes, same.only_b_nbytes) == ((), 0, 0)


def command(*words: str, store: str | Path) -> Result:
    return CliRunner().invoke(cli, [*words, "--store", str(store)])


def test_commands_say_what_they_did(tmp_path: Path) -> None:
    url = tmp_path / "store"
    make_run(url, status=None)
    made = command("fork", "sim", "--at", "2", "--as", "new", store=url)
    assert made.exit_code == 0, made.output
    assert "sim/new starts from checkpoint 2" in made.output
    done = command("reset", "sim/aaaa", "--to", "1", "--yes", store=url)
    assert (done.exit_code, done.output) == (0, "sim/aaaa goes on from checkpoint 1 (as checkpoint 3)\n")
    assert command("reset", "sim/aaaa", "--to", "9", "--yes", store=url).exit_code == 2
    differing = command("diff", "sim/aaaa", "sim/new", store=url)
    assert differing.exit_code == 1
    assert "sim.x      resized   100 B -> 97.7 KiB" in differing.output
    assert command("diff", "sim/new", "sim/new@2", store=url).exit_code == 0
    assert command("diff", "sim/aaaa", "sim/new", "--json", store=url).output.startswith("{")


def test_runs_of_which_nothing_was_heard_for_long_are_removed_and_others_stay(tmp_path: Path) -> None:
    url = tmp_path / "store"
    for run_id, status in (("a", "finished"), ("b", None)):
        make_run(url, run_id=run_id, status=status)
    young = Writing.start(url, run_id="young")
    young.checkpoint(2, when=SystemClock().now())
    young.end()
    assert command("rm", store=url).exit_code == 2
    assert "no run is older" in command("rm", "--older-than", "3650d", "-y", store=url).output
    assert [run.address for run in Store(url).old(86_400.0)] == [], "they have begun just now"
    process = start_live_run(url, "sim", "live")
    try:
        with pytest.MonkeyPatch.context() as patch:
            now = SystemClock().now()
            patch.setattr(SystemClock, "now", lambda self: now + 40 * 86_400)
            done = command("rm", "--older-than", "30d", "-y", store=url)
        assert done.exit_code == 0, done.output
        assert Store(url).addresses() == ["sim/live"]
    finally:
        process.kill()
        process.wait()


def test_fork_of_a_block_shows_its_state_and_is_spoken_of_as_a_block(tmp_path: Path) -> None:
    with contextlib.suppress(Dies), ckpt.open("steps", every="1it") as run:
        s = run.state(total=0, field=np.zeros(100))
        for i in run.loop(range(3)):
            s.total += i
            settle()
        raise Dies
    info = Store(".ckpt").open("steps")
    assert {"state.total": -1, "state.field": 800}.items() <= info.checkpoints[-1].captured.items()
    shown = CliRunner().invoke(cli, ["fork", "--store", ".ckpt", "steps", "--as", "mine"])
    assert shown.exit_code == 0
    assert "ckpt.open('steps', run_id='mine')" in shown.stderr
    assert "f.options" not in shown.stderr
    summary = next(one for one in Store(".ckpt").list() if one.address == "steps/mine")
    assert summary.status == "forked"
    with pytest.raises(ReplayDivergedError) as refused, ckpt.open("steps", run_id="mine", every="1it") as run:
        assert run.attempt == 2  # and the loop is not there
    assert refused.value.fix.endswith("start afresh: ckpt rm steps/mine"), "a block has no fresh=True"
    assert Store(".ckpt").open("steps/mine").summary.status == "failed"
    assert [one.status for one in Store(".ckpt").open("steps/mine").attempts] == ["forked", "failed"]
    assert Store(".ckpt").open("steps/mine").forked_from == info.summary.address + f"@{info.checkpoints[-1].number}"
