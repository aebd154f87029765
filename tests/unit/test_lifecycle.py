"""What begins and ends with an attempt: children that leave it, errors while it opens and closes, signals, the pulse."""

from __future__ import annotations

import ast
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt.errors import CodeChangedError, OptionError, ReplayDivergedError
from ckpt.jobs.opening import _fixes_of_a_block
from ckpt.log import LogWriter
from ckpt.session.pulse import Pulse
from ckpt.session.signals import StopSignals
from ckpt.session.signs import Signs
from ckpt.settings import Environment
from ckpt.store import Store
from ckpt.supervisor import _Pulse
from ckpt.testing import FakeClock

LIMIT_S = 20


def leaves_in_a_child(store: Path) -> tuple[int, bytes]:
    """Opens a block and forks; the child leaves the block. (its exit status, what it left in the log)."""
    with ckpt.open("block", store=str(store)) as run:
        if not run.resumed:
            run.checkpoint()
        before = logs(store)
        pid = os.fork()
        if pid == 0:
            signal.alarm(LIMIT_S)  # a child that hangs is ended by this
        else:
            _, status = os.waitpid(pid, 0)
            assert logs(store) == before, "the child wrote to the parent's log"
    if pid == 0:
        os._exit(0)
    return status, before


def logs(store: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(store.rglob("*.log")))


def test_forked_child_that_leaves_a_block_ends_and_writes_nothing(scratch: Path) -> None:
    assert leaves_in_a_child(scratch)[0] == 0
    assert leaves_in_a_child(scratch)[0] == 0, "a block that is entered again"


CODE = {"grow": 1}


def job_with(body: int) -> Any:
    scope: dict[str, Any] = {"ckpt": ckpt, "__name__": "lifecycle_job"}
    source = (
        "def grow(dies):\n    total = 0\n    for i in ckpt.loop(range(4)):\n"
        f"        total += {body}\n        if dies and i == 2: raise KeyError(i)\n    return total\n"
    )
    exec(compile(source, "lifecycle_job.py", "exec"), scope)  # noqa: S102 - the same job with other code
    return ckpt.job(key="grow", name="grow", on_code_change="fail")(scope["grow"])


def test_attempt_that_is_refused_lets_go_of_the_log(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError):
        job_with(1).options(store=str(scratch))(True)
    closed: list[LogWriter] = []
    close = LogWriter.close
    monkeypatch.setattr(LogWriter, "close", lambda self: (closed.append(self), close(self))[1])
    before = open_files()
    with pytest.raises(CodeChangedError):
        job_with(2).options(store=str(scratch))(True)
    assert len(closed) == 1
    assert open_files() == before


def open_files() -> list[str]:
    found = []
    for one in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(one))
        except FileNotFoundError:
            continue
    return sorted(name for name in found if name.endswith(".log") and "/log/" in name)


def test_log_is_closed_where_the_end_cannot_be_recorded(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ckpt.session.attempt import Attempt

    def fails(self: Attempt, error: BaseException) -> None:
        raise ckpt.errors.StorageError("it is gone")

    monkeypatch.setattr(Attempt, "_record", fails)
    before = open_files()
    with pytest.raises(KeyError):
        job_with(1).options(store=str(scratch))(True)
    assert open_files() == before
    assert "it is gone" in capsys.readouterr().err


def test_trigger_object_is_not_shared_by_the_runs_of_a_job(scratch: Path) -> None:
    def counts(xs: int) -> int:
        for _ in ckpt.loop(range(xs)):
            pass
        return xs

    trigger = ckpt.triggers.parse("5it")
    job = ckpt.job(key=lambda xs: xs, name="counts", every=trigger)(counts)
    before = trigger.due_in(3, 0.0)
    job.options(store=str(scratch))(7)
    assert trigger.due_in(3, 0.0) == before


@pytest.fixture
def handlers() -> Iterator[None]:
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_stop_is_recorded_where_stderr_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int, data: bytes) -> int:
        raise BrokenPipeError

    stopped: list[str] = []
    signals = StopSignals(stopped.append)
    signals.install()
    monkeypatch.setattr(os, "write", broken)
    signal.raise_signal(signal.SIGINT)
    monkeypatch.undo()
    signals.restore()
    assert stopped == ["SIGINT"]


@pytest.mark.usefixtures("handlers")
def test_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopped: list[str] = []
    signals = StopSignals(stopped.append)
    signals.install()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    signals.restore()
    assert stopped == ["SIGTERM"]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_pulse_that_cannot_be_shown_is_said_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pulse = Pulse(str(tmp_path))  # a folder cannot be opened for writing
    pulse.beat(1, [[0, 7]])
    pulse.beat(2, [[0, 7]])
    assert capsys.readouterr().err.count("sign of life") == 1


def test_pulse_whose_file_is_gone_has_no_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Pulse(str(tmp_path / "gone")).beat(1, [[0, 7]])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["x", "-1", "0", "nan"])
def test_wrong_interval_of_the_pulse_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_PULSE_EVERY", text)
    with pytest.raises(OptionError, match="CKPT_PULSE_EVERY"):
        Environment.read()


def test_attempt_takes_time_and_entropy_from_its_plan(scratch: Path) -> None:
    from ckpt import host
    from ckpt.format.names import RunNames
    from ckpt.session.attempt import Attempt, open_attempt
    from ckpt.session.plan import Plan
    from ckpt.settings import Options

    class Clock(host.SystemClock):
        def now(self) -> float:
            return 86400.0

    drawn: list[int] = []

    def entropy(length: int) -> bytes:
        drawn.append(length)
        return host.entropy(length)

    environment = Environment.read()
    plan = Plan(
        names=RunNames("clocked", "default"),
        options=environment.apply(Options(store=str(scratch))),
        environment=environment,
        code={},
        arguments="",
        argument_digests={},
        captures_locals=False,
        clock=Clock(),
        entropy=entropy,
    )
    opened = open_attempt(plan)
    assert isinstance(opened, Attempt)
    with opened.running() as run:
        run.begin()
    assert drawn
    assert [one.last_activity for one in Store(scratch).list()] == [86400.0]


def slow_items(count: int) -> Iterator[int]:
    for i in range(count):
        time.sleep(0.003)
        yield i


LEFT = {"at": 20}


def fed() -> int:
    for i in ckpt.loop(slow_items(24)):
        ckpt.current_run()._saving.wait_idle()  # type: ignore[union-attr]
        if i == LEFT["at"]:
            raise KeyError(i)
    return 0


def test_life_is_shown_while_input_is_consumed_again(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch / "pulse").touch()
    monkeypatch.setenv("CKPT_PULSE", str(scratch / "pulse"))
    monkeypatch.setenv("CKPT_PULSE_EVERY", "0.001")
    job = ckpt.job(key="fed", name="fed", every="1it")(fed).options(store=str(scratch / "store"))
    LEFT["at"] = 20
    with pytest.raises(KeyError):
        job()
    LEFT["at"] = 21
    while_replaying: list[bool] = []
    beat = Signs.beat

    def noted(self: Signs, position: list[list[int]]) -> None:
        while_replaying.append(self._track.replaying)
        beat(self, position)

    monkeypatch.setattr(Signs, "beat", noted)
    with pytest.raises(KeyError):
        job()
    assert True in while_replaying


def test_pulse_file_that_was_deleted_is_made_again_and_does_not_end_the_supervisor(tmp_path: Path) -> None:
    pulse = _Pulse(tmp_path / "folder" / "pulse", FakeClock())
    pulse.path.unlink()
    pulse.path.parent.rmdir()
    assert pulse.shown() == (0, [])
    assert pulse.silence_s() == 0.0, "a file that was made again is no silence"
    Pulse(str(pulse.path)).beat(3, [[0, 7]])
    assert pulse.shown() == (3, [[0, 7]])


def test_no_fix_of_a_block_names_what_only_jobs_have() -> None:
    fixes = []
    for path in Path(ckpt.__file__).parent.rglob("*.py"):
        texts = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        fixes += [one for one in texts if isinstance(one, str) and "fresh=True" in one and "\n" not in one]
    assert len(fixes) > 8
    for fix in fixes:
        with pytest.raises(ReplayDivergedError) as raised, _fixes_of_a_block("block/default"):
            raise ReplayDivergedError("", fix=fix)
        assert "fresh=True" not in raised.value.fix
        assert "f.options" not in raised.value.fix
        assert "ckpt rm block/default" in raised.value.fix
