"""What a map leaves in the log, and for how long."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt import events, retention
from ckpt.session import moving

executed: list[int] = []
UNTIL = [0]
"""Where the job dies. Not an argument: it is the same run."""
_lock = threading.Lock()


def count(n: int) -> int:
    with _lock:
        executed.append(n)
    return n * 3


class Died(Exception):
    """Stands for a crash: nothing is kept at the end."""


@ckpt.step
def filler(n: int) -> bytes:
    return bytes([n % 256]) * 2000


@ckpt.job(key="long")
def bare_map_and_a_long_loop(_: int) -> int:
    total = sum(ckpt.map(count, range(200), max_workers=2, ordered=False))
    for n in ckpt.loop(range(400)):
        filler(n)
        if n == UNTIL[0]:
            raise Died
        run = ckpt.current_run()
        if n % 5 == 0 and run is not None:
            run.request_checkpoint()  # unlike a trigger's it is taken even while the one before is in flight
        total += 1
    return total


def log_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*.log"))


def test_results_in_front_of_a_long_loop_do_not_keep_what_comes_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROTATE_BYTES", 8 << 10)
    monkeypatch.setattr(moving, "ROTATE_BYTES", 8 << 10)
    executed.clear()
    job: Any = bare_map_and_a_long_loop.options(store=tmp_path)
    sizes = []
    for until in (300, 350, 399):
        with pytest.raises(Died):
            call(job, until)
        sizes.append(log_bytes(tmp_path))
    assert max(sizes) < 500_000, f"{sizes}: 600 KB of results of steps lie behind the map"
    assert call(job, -1) == sum(n * 3 for n in range(200)) + 400
    assert sorted(executed) == list(range(200)), "no item was executed twice"


def call(job: Any, until: int) -> int:
    """The same run, whatever ``until`` says."""
    UNTIL[0] = until
    result: int = job(0)
    return result


@ckpt.job(key="seen")
def seen_in_the_log(store: str, ordered: bool) -> list[int]:
    found = []
    for number, _ in enumerate(ckpt.map(count, range(12), max_workers=2, ordered=ordered), 1):
        records = ckpt.Store(store).records("seen")
        found.append(sum(record.head.get("items", 0) for record in records) - number)
    return found


@pytest.mark.parametrize("ordered", [True, False])
def test_a_result_is_in_the_log_before_it_is_handed_out(ordered: bool, tmp_path: Path) -> None:
    job: Any = seen_in_the_log.options(store=tmp_path)
    assert min(job(str(tmp_path), ordered)) >= 0


@ckpt.job(key="loop", every="5it")
def map_in_a_loop(n: int) -> int:
    total = 0
    for value in ckpt.loop(ckpt.map(big, range(n), max_workers=2)):
        run = ckpt.current_run()
        assert run is not None
        run._saving.wait_idle()  # each checkpoint is done before the next is due
        total += value[0]
    return total


def big(n: int) -> bytes:
    return bytes([n % 256]) * 20_000


def test_a_marked_loop_lets_go_of_the_results_behind_it(tmp_path: Path) -> None:
    seen = []

    def look(name: str, details: dict[str, object]) -> None:
        if name == "checkpoint":
            seen.append(log_bytes(tmp_path))

    events.add_hook(look)
    try:
        assert map_in_a_loop.options(store=tmp_path)(300) == sum(n % 256 for n in range(300))
    finally:
        events.remove_hook(look)
    assert len(seen) > 5
    assert max(seen) < 3_000_000, f"{max(seen)} bytes of 6,000,000"


@ckpt.job(key="bare")
def bare(_: int) -> int:
    total = sum(ckpt.map(count, range(57), max_workers=2))
    if UNTIL[0] == 1:
        raise Died
    return total


def test_a_resume_tells_how_many_items_of_a_bare_map_are_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job: Any = bare.options(store=tmp_path)
    with pytest.raises(Died):
        call(job, 1)
    capsys.readouterr()
    call(job, -1)
    assert "resumed at start, with 57 items recorded (checkpoint 1" in capsys.readouterr().err
