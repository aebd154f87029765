"""A state that no later checkpoint names is let go of, also while the checkpoint that has it is being written."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import ckpt
from ckpt.checkpointer import Checkpointer, Kept

ANSWER_S = 0.2
"""How long a write waits for the job's thread to ask, at most: where it waits for the write instead, it does not ask."""


@ckpt.job(key="keyed", every="3it", keep=3)
def keyed(rows: int) -> list[list[int]]:
    shared = [[n] for n in range(rows)]
    for row in ckpt.loop(shared, key=lambda row: row[0]):
        for number in ckpt.loop(range(3)):
            row.append(number)
    return shared


def test_a_write_may_end_just_when_its_state_is_let_go_of(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    write = Checkpointer._write

    def write_when_asked(self: Checkpointer, state: Kept) -> int:
        asked.wait(ANSWER_S)
        return write(self, state)

    def ends_meanwhile(self: Checkpointer) -> bool:
        asked.set()
        self.wait_idle()
        asked.clear()
        return False

    monkeypatch.setattr(Checkpointer, "_write", write_when_asked)
    monkeypatch.setattr(Checkpointer, "busy", property(ends_meanwhile))
    assert keyed.options(store=str(scratch))(4) == [[n, 0, 1, 2] for n in range(4)]
