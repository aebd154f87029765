"""An interrupt of the thread that commits for others: none of those waits for ever."""

from __future__ import annotations

import threading
import time

import pytest
from unit.log_doubles import SimDisk, op, take_over

from ckpt.errors import StorageError


def interrupted_append(monkeypatch, interrupt):
    """How three appends end of which the first is interrupted by ``interrupt``, once all three have queued."""
    writer, _ = take_over(SimDisk())
    ended, once = [], threading.Event()

    def append(number):
        try:
            ended.append(op(writer, number))
        except (StorageError, KeyboardInterrupt) as error:
            ended.append(error)

    def all_queued():
        if once.is_set():
            return False
        once.set()
        for thread in threads[1:]:
            thread.start()
        until = time.monotonic() + 10
        while len(writer._pending) < 3 and time.monotonic() < until:
            time.sleep(0.001)
        return True

    threads = [threading.Thread(target=append, args=(number,), daemon=True) for number in range(3)]
    interrupt(monkeypatch, writer, all_queued)
    threads[0].start()
    for thread in threads:
        until = time.monotonic() + 10
        while thread.ident is None and time.monotonic() < until:
            time.sleep(0.001)
        thread.join(10)
    return ended


def before_it_commits(monkeypatch, writer, all_queued):
    settle = writer._settle

    def interrupted(entry):
        if all_queued():
            raise KeyboardInterrupt
        settle(entry)

    monkeypatch.setattr(writer, "_settle", interrupted)


def when_it_has_taken_all(monkeypatch, writer, all_queued):
    take = writer._take

    def interrupted(rotate):
        first = all_queued()
        taken = take(rotate)
        if first:
            raise KeyboardInterrupt
        return taken

    monkeypatch.setattr(writer, "_take", interrupted)


@pytest.mark.parametrize("moment", [before_it_commits, when_it_has_taken_all])
def test_interrupt_of_the_thread_that_commits_for_others_leaves_none_of_them_waiting(moment, monkeypatch):
    ended = interrupted_append(monkeypatch, moment)
    assert len(ended) == 3
    assert sum(isinstance(one, KeyboardInterrupt) for one in ended) == 1
