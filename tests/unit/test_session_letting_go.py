"""A state that no later checkpoint names is let go of, also while the checkpoint that has it is being written."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import ckpt
from ckpt.checkpointer import Checkpointer, Kept, Request

ANSWER_S = 30.0
"""How long a write waits for the job's thread, at most: a test that fails need not hang."""


@ckpt.job(key="keyed", every="1000s", keep=3)
def keyed(rows: int) -> list[list[int]]:
    shared = [[n] for n in range(rows)]
    for row in ckpt.loop(shared, key=lambda row: row[0]):
        for number in ckpt.loop(range(3)):
            row.append(number)
            if number == 2:
                ckpt.current_run().request_checkpoint()
    return shared


def test_a_write_may_end_just_when_its_state_is_let_go_of(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    write, submit, wait_idle, close = Checkpointer._write, Checkpointer.submit, Checkpointer.wait_idle, Checkpointer.close

    def write_when_asked(self: Checkpointer, state: Kept) -> int:
        assert asked.wait(ANSWER_S)
        return write(self, state)

    def ends_now(self: Checkpointer) -> None:
        asked.set()
        wait_idle(self)
        asked.clear()

    def is_busy_no_more(self: Checkpointer) -> bool:
        ends_now(self)
        return False

    class Asks(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            asked.set()
            return super().wait(timeout)

    def submit_next(self: Checkpointer, request: Request) -> None:
        ends_now(self)
        request.done = Asks()
        submit(self, request)

    def close_at_the_end(self: Checkpointer) -> None:
        ends_now(self)
        close(self)

    monkeypatch.setattr(Checkpointer, "_write", write_when_asked)
    monkeypatch.setattr(Checkpointer, "busy", property(is_busy_no_more))
    monkeypatch.setattr(Checkpointer, "wait_idle", ends_now)
    monkeypatch.setattr(Checkpointer, "submit", submit_next)
    monkeypatch.setattr(Checkpointer, "close", close_at_the_end)
    assert keyed.options(store=str(scratch))(4) == [[n, 0, 1, 2] for n in range(4)]
