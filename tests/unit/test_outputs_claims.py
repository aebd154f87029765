"""Claims on output files: handed over to a fork, deleted by somebody, left by a run that was removed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from programs.ticks import settle
from unit.outputs_support import Dies, here  # noqa: F401 - the last is a fixture

import ckpt
from ckpt.errors import OutputBusyError, OutputChangedError
from ckpt.outputs import Outputs, Owner, Settings
from ckpt.storage import MemoryStorage

EARLIER = "earlier\n"
LINES = "".join(f"{i}\n" for i in range(6))


@pytest.fixture(autouse=True)
def with_lines_of_before(here: None) -> None:  # noqa: F811 - the fixture of that name
    Path("a.txt").write_text(EARLIER)


@ckpt.job(every="1it", keep=9, key=lambda mode="a": "origin")
def lines(mode: str = "a") -> None:
    with ckpt.output("a.txt", mode) as out:  # type: ignore[call-overload]
        for i in ckpt.loop(range(6)):
            out.write(f"{i}\n")
            settle()
            if (os.path.exists("die") and i == 3) or os.path.exists("never"):
                raise Dies


def killed(mode: str = "a") -> str:
    """The address of a run that stopped in its fourth iteration."""
    Path("die").touch()
    with pytest.raises(Dies):
        lines(mode)
    Path("die").unlink()
    return lines.address(mode)


def forked(at: int, mode: str = "a") -> str:
    return ckpt.Store("store").fork(killed(mode), at=at, run_id="f").address


def go_on(mode: str = "a", run_id: str = "f") -> None:
    lines.options(run_id=run_id)(mode)


def refused(mode: str = "a", run_id: str = "f") -> OutputChangedError:
    """Twice the same, and nothing is touched."""
    before = Path("a.txt").read_bytes()
    for _ in range(2):
        with pytest.raises(OutputChangedError, match="no claim") as caught:
            go_on(mode, run_id)
    assert Path("a.txt").read_bytes() == before
    assert not Path("a.txt.ckpt").exists(), "the next attempt would believe a claim that was only guessed"
    return caught.value


def shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True)


@pytest.mark.parametrize("at", [1, 3])
def test_fork_to_which_the_claim_is_handed_over_goes_on_like_its_origin(at: int) -> None:
    fork = forked(at)
    with pytest.raises(OutputBusyError) as caught:
        go_on()
    told = re.search(r'in (\S+), write "(\S+)" for "(\S+)"', caught.value.fix)
    assert told is not None
    claim, new, old = told.groups()
    assert new == fork
    Path(claim).write_text(Path(claim).read_text().replace(old, new))
    go_on()
    assert Path("a.txt").read_text() == EARLIER + LINES
    assert not Path(claim).exists()


@pytest.mark.parametrize("stays", [len(EARLIER), 0])
def test_fork_at_the_start_without_a_claim_is_refused_and_can_be_told_what_stays(stays: int) -> None:
    forked(1)
    Path("a.txt.ckpt").unlink()
    size = os.path.getsize("a.txt")
    command = refused().fix.partition("make the claim: ")[2].partition(", where start")[0]
    shell(command.replace(f'"start": {size}', f'"start": {stays or size}'))
    go_on()
    assert Path("a.txt").read_text() == EARLIER + ("" if stays else "0\n1\n2\n3\n") + LINES


@pytest.mark.parametrize("mode", ["a", "w"])
@pytest.mark.parametrize("of", ["fork", "run"])
def test_run_without_its_claim_takes_from_its_state_where_its_part_begins(of: str, mode: str) -> None:
    run_id = (forked(3, mode) if of == "fork" else killed(mode)).rpartition("/")[2]
    Path("a.txt.ckpt").unlink()
    with Path("a.txt").open("a") as other:
        other.write("another run's\n")
    command = refused(mode, run_id).fix.partition("give that up: ")[2].partition(";")[0]
    shell(command)
    go_on(mode, run_id)
    assert Path("a.txt").read_text() == (EARLIER if mode == "a" else "") + LINES


def test_fork_that_may_empty_the_file_goes_on_without_a_claim() -> None:
    forked(1, "w")
    Path("a.txt.ckpt").unlink()
    go_on("w")
    assert Path("a.txt").read_text() == LINES


def test_fork_does_not_cut_off_what_its_origin_wrote_when_it_finished() -> None:
    forked(3)
    lines()
    assert Path("a.txt").read_text() == EARLIER + LINES
    refused()


@ckpt.job(every="1it", key="other")
def other() -> None:
    with ckpt.output("a.txt") as out:
        for i in ckpt.loop("xyz"):
            out.write(f"{i}\n")


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_refused_run_is_told_what_is_true_of_the_claims_run_and_what_keeps_the_lines_of_before(
    removed: bool, kept: bool
) -> None:
    address = killed()
    written = Path("a.txt").read_text()
    assert written != EARLIER
    if removed:
        ckpt.Store("store").remove(address)
    with pytest.raises(OutputBusyError, match="removed" if removed else "not finished") as caught:
        other()
    assert ("finish that run" in caught.value.fix) is not removed
    told = re.search(r"give up what it wrote: (truncate .*?) \(.*?\), then delete (\S+?);.*to keep it.*: only delete (\S+)", caught.value.fix)
    assert told is not None
    command, claim, alone = told.groups()
    assert claim == alone == str(Path("a.txt.ckpt").resolve())
    if not kept:
        shell(command)
    Path(claim).unlink()
    other()
    assert Path("a.txt").read_text() == (written if kept else EARLIER) + "x\ny\nz\n"


def test_claim_of_another_store_s_run_is_not_said_to_be_a_removed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    killed()
    monkeypatch.setenv("CKPT_STORE", "elsewhere")
    with pytest.raises(OutputBusyError, match="has not finished it"):
        other()


def test_claim_on_an_object_is_given_up_without_the_object() -> None:
    MemoryStorage("claims").put("kept", [b"before"])
    first = _attempt("first")
    first.arrived()
    first.open("memory://claims/kept", Settings("ab")).write(b"0123")
    second = _attempt("second")
    second.arrived()
    with pytest.raises(OutputBusyError) as caught:
        second.open("memory://claims/kept", Settings("ab"))
    assert "give up what it wrote: delete memory://claims/kept.parts/claim" in caught.value.fix
    assert "to keep it" not in caught.value.fix, "nothing of it is in the object yet"
    MemoryStorage("claims").delete("kept.parts/claim")
    second.open("memory://claims/kept", Settings("ab")).write(b"4567")
    second.complete()
    second.release()
    assert MemoryStorage("claims").get("kept") == b"before4567"


def test_way_out_after_a_reset_to_a_checkpoint_whose_bytes_were_cut_off() -> None:
    address, store = killed(), ckpt.Store("store")
    store.reset(address, to=2)
    Path("never").touch()
    with pytest.raises(Dies):
        lines()
    store.reset(address, to=4)
    with pytest.raises(OutputChangedError, match="goes on behind byte") as caught:
        lines()
    assert f"ckpt reset {address} --to NUMBER" in caught.value.fix
    assert f"keeps the first {len(EARLIER)} bytes" in caught.value.fix
    store.reset(address, to=2)
    Path("never").unlink()
    lines()
    assert Path("a.txt").read_text() == EARLIER + LINES


def _attempt(run: str) -> Outputs:
    return Outputs(
        Owner(run, "id", "u"), over=False, new_tag=lambda: run, check_current=lambda: None, may_write=lambda: True
    )  # fmt: skip


def test_object_that_the_origin_has_finished_is_not_joined_with_the_fork_s_part() -> None:
    origin, url = _attempt("origin"), "memory://claims/rows"
    origin.arrived()
    origin.open(url, Settings("ab")).write(b"0123")
    saved = origin.saved()["outputs"]
    saved[0]["sink"]["tail"] = b"0123"
    origin.complete()
    origin.release()
    fork = _attempt("fork")
    fork.restore(saved)
    with pytest.raises(OutputChangedError, match="another run finished it"):
        fork.arrived()
    assert MemoryStorage("claims").get("rows") == b"0123"
