"""Output files: whose they are, what is refused, what is durable when, and what an attempt that was overtaken can do."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from programs.ticks import settle
from unit.outputs_support import Dies, here  # noqa: F401 - the last is a fixture

import ckpt
from ckpt.checkpointer import Checkpointer, Request
from ckpt.errors import FencedError, OptionError, OutputBusyError, OutputChangedError, UncapturableError
from ckpt.format.records import Kind
from ckpt.log import LogWriter
from ckpt.outputs import Outputs, Owner, Settings, local, parts
from ckpt.storage import MemoryStorage

LINES = "0\n1\n2\n3\n4\n5\n"


@ckpt.job(every="1it", key=lambda path, label="": label or "one")
def lines(path: str, label: str = "") -> int:
    out = ckpt.output(path, **({"mode": "w"} if label == "w" else {}))
    for i in ckpt.loop(range(6)):
        out.write(f"{i}\n")
        out.flush()
        settle()
        if os.path.exists("die") and i == 3:
            raise Dies
    return out.tell()


def half(path: str = "a.txt", label: str = "") -> None:
    """A run that stopped in its fourth iteration, behind its third checkpoint."""
    Path("die").touch()
    with pytest.raises(Dies):
        lines(path, label)
    Path("die").unlink()


def test_finished_file_has_every_line_once_and_no_claim() -> None:
    half()
    assert Path("a.txt").read_text().startswith("0\n1\n2\n3\n")
    claim = json.loads(Path("a.txt.ckpt").read_text())
    assert (claim["run"].rpartition(".")[2], claim["start"]) == ("lines/" + lines.address("a.txt").rpartition("/")[2], 0)
    assert lines("a.txt") == len(LINES)
    assert Path("a.txt").read_text() == LINES
    assert not Path("a.txt.ckpt").exists()


def test_file_of_an_unfinished_run_is_refused_to_another_run_and_given_when_it_is_finished() -> None:
    half()
    with pytest.raises(OutputBusyError, match="belongs to run") as refused:
        lines("a.txt", "other")
    assert lines.address("a.txt") in str(refused.value)
    assert "a.txt.ckpt" in refused.value.fix
    assert Path("a.txt").read_text().startswith("0\n1\n2\n3\n")
    lines("a.txt")
    lines("a.txt", "other")
    assert Path("a.txt").read_text() == LINES * 2
    lines("a.txt", "w")
    assert Path("a.txt").read_text() == LINES


def test_run_that_begins_afresh_cuts_off_what_it_wrote_before() -> None:
    Path("a.txt").write_text("earlier\n")
    half()
    lines.options(fresh=True)("a.txt")
    assert Path("a.txt").read_text() == "earlier\n" + LINES


@pytest.mark.parametrize("change", ["short", "other", "gone"])
def test_file_that_is_not_as_the_run_left_it_is_refused_by_name_and_not_touched(change: str) -> None:
    half()
    path = Path("a.txt")
    whole = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:3] if change == "short" else b"x" + whole[1:])
    changed = path.read_bytes() if path.exists() else b""
    with pytest.raises(OutputChangedError) as refused:
        lines("a.txt")
    assert str(path.resolve()) in str(refused.value)
    assert refused.value.fix
    assert path.read_bytes() == changed
    path.write_bytes(whole)
    lines("a.txt")
    assert path.read_text() == LINES


ITEMS = ["a", "b", "c", "d"]


@ckpt.job(every="1it", key="by key")
def by_key() -> None:
    out = ckpt.output("keys.txt")
    for item in ckpt.loop(ITEMS, key=str):
        out.write(f"{item}\n" * 9)
        out.flush()
        settle()
        if item == "c" and os.path.exists("die"):
            raise Dies


def test_what_was_written_for_an_item_that_is_gone_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("die").touch()
    with pytest.raises(Dies):
        by_key()
    assert "c\n" in Path("keys.txt").read_text()
    monkeypatch.setattr(sys.modules[__name__], "ITEMS", ["a", "b"])
    by_key()
    assert Path("keys.txt").read_text() == "a\n" * 9 + "b\n" * 9


def test_file_that_another_process_has_open_is_refused() -> None:
    program = (
        "import sys; from ckpt.outputs.claim import *; claim_local(sys.argv[1], Owner('j/r', 'id', 'u'), 0)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    paths = os.pathsep.join([str(Path(ckpt.__file__).parents[1]), *sys.path])
    command = [sys.executable, "-c", program, str(Path("a.txt").resolve())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(OutputBusyError, match="another process"):
            lines("a.txt")
        process.stdin.close()


@ckpt.job(every="1it", key="elsewhere")
def elsewhere(where: str) -> None:
    out = ckpt.output("a.txt")
    for i in ckpt.loop(range(3)):
        if where == "step":
            ckpt.step(lambda i: out.write(f"{i}"))(i)
        elif where == "step opens":
            ckpt.step(lambda i: ckpt.output("b.txt"))(i)
        elif where == "thread":
            caught: list[BaseException] = []
            thread = threading.Thread(target=lambda seen=caught: _try(out, seen))
            thread.start()
            thread.join()
            raise caught[0]
        elif where == "emptied":
            out.write("x")
            ckpt.output("a.txt", "w")
        elif where == "settings":
            ckpt.output("a.txt", "ab")


def _try(out: Any, seen: list[BaseException]) -> None:
    try:
        out.write("x")
    except OptionError as error:
        seen.append(error)


@pytest.mark.parametrize("where", ["step", "step opens", "thread", "emptied", "settings"])
def test_what_a_resume_could_not_make_exact_is_refused(where: str) -> None:
    with pytest.raises(OptionError) as refused:
        elsewhere.options(fresh=True)(where)
    assert ".txt" in refused.value.where
    assert refused.value.fix


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"mode": "r"}, {"mode": "ab", "encoding": "utf-8"}, {"newline": "x"}, {"encoding": "no such"}):
        with pytest.raises(OptionError):
            ckpt.output("a.txt", **wrong)  # type: ignore[call-overload]


@ckpt.job(every="1it", key="async")
async def asynchronous(items: int) -> None:
    out = ckpt.output("async.txt")
    for i in ckpt.loop(range(items)):
        await asyncio.sleep(0)
        out.write(f"{i}\n")
        out.flush()
        if i == 3 and os.path.exists("die"):
            raise Dies
    if os.path.exists("task"):
        await asyncio.gather(_write_in_a_task(out))


async def _write_in_a_task(out: Any) -> None:
    out.write("x")


def test_async_job_writes_like_another_one_and_its_tasks_are_refused() -> None:
    Path("die").touch()
    with pytest.raises(Dies):
        asyncio.run(asynchronous(6))
    Path("die").rename("task")
    with pytest.raises(OptionError, match="task"):
        asyncio.run(asynchronous(6))
    Path("task").unlink()
    asyncio.run(asynchronous(6))
    assert Path("async.txt").read_text() == LINES


@ckpt.job(key="plain")
def plain_file() -> None:
    out = open("a.txt", "w")  # noqa: SIM115
    for i in ckpt.loop(range(2)):
        print(i, file=out)


def test_plain_file_open_for_writing_is_refused_and_the_fix_is_an_output() -> None:
    with pytest.raises(UncapturableError, match=r"ckpt\.output\(path\)"):
        plain_file()


def test_bytes_are_durable_before_the_checkpoint_that_names_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    lengths: list[tuple[int, int]] = []
    append, submit = LogWriter.append, Checkpointer.submit

    def waiting(self: Checkpointer, request: Request) -> None:  # else the job writes on, beside the checkpoint
        submit(self, request)
        request.done.wait()

    def noting(self: LogWriter, kind: Kind, *args: Any, **kwargs: Any) -> int:
        if kind is Kind.CHECKPOINT and os.path.exists("a.txt"):
            lengths.append((os.path.getsize("a.txt"), synced[-1] if synced else 0))
        return append(self, kind, *args, **kwargs)

    monkeypatch.setattr(local, "sync_data", lambda fd: synced.append(os.fstat(fd).st_size))
    monkeypatch.setattr(LogWriter, "append", noting)
    monkeypatch.setattr(Checkpointer, "submit", waiting)
    lines("a.txt")
    assert len(lengths) > 5
    assert all(there == durable for there, durable in lengths), lengths


def test_bytes_that_are_written_while_the_file_is_synced_are_synced_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sink = local.LocalSink(str(Path("a.txt").resolve()), Owner("job/run", "id", "u"), truncates=False)
    sink.cut(0, 0, None)
    write_all = local.write_all

    def synced_just_before(*args: Any) -> int:
        sink.make_durable()  # by the checkpointer's thread
        return write_all(*args)

    monkeypatch.setattr(local, "sync_data", lambda fd: synced.append(os.fstat(fd).st_size))
    monkeypatch.setattr(local, "write_all", synced_just_before)
    sink.append(b"12345")
    sink.make_durable()
    sink.close()
    assert synced[-1] == 5


def test_failed_fsync_ends_the_attempt_and_the_next_one_goes_on_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        calls: list[int] = []

        def fails(fd: int) -> None:
            calls.append(fd)
            if len(calls) == 3:
                raise OSError(errno.EIO, "Input/output error")

        patch.setattr(local, "sync_data", fails)
        with pytest.raises(OutputChangedError, match="could not be made durable"):
            lines("a.txt")
        assert len(calls) == 3, "an fsync that failed is not tried again"
    lines("a.txt")
    assert Path("a.txt").read_text() == LINES


def test_outside_a_job_it_is_a_plain_file_and_an_object_is_written_when_it_is_closed() -> None:
    for _ in range(2):
        with ckpt.output("a.txt", newline="\r\n") as out:
            out.write("ü\n")
        with ckpt.output("memory://plain/a.txt") as out:
            out.write("ü\n")
    assert Path("a.txt").read_bytes() == "ü\r\nü\r\n".encode()
    assert MemoryStorage("plain").get("a.txt") == "ü\nü\n".encode()
    assert not Path("a.txt.ckpt").exists()


def attempt(name: str, current: list[str]) -> Outputs:
    """The outputs of attempt ``name``, which is overtaken once ``current`` names another one."""

    def check() -> None:
        if current[0] != name:
            raise FencedError("overtaken")

    tags = iter(range(100))
    return Outputs(
        Owner("job/run", "id", "u"), over=False, new_tag=lambda: f"{name}{next(tags)}", check_current=check,
        may_write=lambda: True,
    )  # fmt: skip


def test_attempt_that_was_overtaken_damages_nothing_of_its_successors_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 8)
    monkeypatch.setattr(parts, "MAX_PENDING", 100)
    url, current = "memory://zombie/rows", ["a"]
    zombie = attempt("a", current)
    zombie.arrived()
    out = zombie.open(url, Settings("ab"))
    out.write(b"0123456789")
    saved = zombie.saved()["outputs"]
    zombie.make_durable()
    saved[0]["sink"]["tail"] = bytes(saved[0]["sink"]["tail"].memory)  # as a state brings it back
    out.write(b"zombie" * 10)
    current[0] = "b"
    successor = attempt("b", current)
    again = successor.open(url, Settings("ab"))
    again.write(b"on the way")
    successor.restore(saved)
    successor.arrived()
    again.write(b"right" * 5)
    successor.make_durable()
    zombie.make_durable()  # it wakes up, and does not know yet
    with pytest.raises(FencedError):
        zombie.complete()
    successor.complete()
    zombie.make_durable()
    assert MemoryStorage("zombie").get("rows") == b"0123456789" + b"right" * 5
    successor.release()
    assert MemoryStorage("zombie").list("") == ["rows"]


def test_missing_or_changed_part_is_an_error_and_not_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 8)
    storage = MemoryStorage("parts")
    outputs = attempt("a", ["a"])
    outputs.arrived()
    outputs.open("memory://parts/rows", Settings("ab")).write(b"0123456789abcdefghij")
    saved = outputs.saved()["outputs"]
    saved[0]["sink"]["tail"] = b"ghij"
    outputs.make_durable()
    part = storage.list("rows.parts/0")[0]
    whole = storage.get(part)
    storage.put(part, [b"XXXXXXXX"])
    with pytest.raises(OutputChangedError):
        outputs.complete()
    assert not storage.exists("rows")
    storage.delete(part)
    later = attempt("b", ["b"])
    later.restore(saved)
    with pytest.raises(OutputChangedError, match="is not there"):
        later.arrived()
    storage.put(part, [whole])
    later.arrived()
    later.complete()
    assert storage.get("rows") == b"0123456789abcdefghij"
