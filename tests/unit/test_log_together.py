"""Group commit: threads that wait at the same time share one sync, and each gets a true answer."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from functools import partial

import pytest
from unit.log_doubles import KEY, NAMES, SimDisk, SimObjects, op, ops, take_over

from ckpt.errors import StorageFullError
from ckpt.log import read_log
from ckpt.storage.local import LocalStorage


def test_threads_that_record_again_and_again_go_on_sharing_syncs(tmp_path, monkeypatch):
    """Those whose records a sync settled come back too late for the next one, unless that waits for them."""
    storage, syncs = LocalStorage(tmp_path), []
    fdatasync = os.fdatasync

    def slow(fd):
        syncs.append(fd)
        fdatasync(fd)
        time.sleep(0.01)

    writer, _ = take_over(storage)
    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=lambda: [op(writer, 1) for _ in range(20)]) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(syncs) <= 20 * 16 / 6
    assert len(ops(read_log(storage, NAMES, KEY))) == 20 * 16
    before = len(syncs)
    for number in range(5):
        op(writer, number)
    assert len(syncs) == before + 5


@pytest.mark.parametrize("make", [SimDisk, SimObjects], ids=["disk", "objects"])
def test_every_thread_gets_an_answer_and_it_is_true_whatever_fails(make):
    """Each waits for the commit of whoever leads; leaders fail, others flush and rotate meanwhile."""
    seed = random.SystemRandom().getrandbits(32)
    storage, rng = make(), random.Random(seed)
    writer, _ = take_over(storage)
    said: list[int] = []

    def faults(operation: str, key: str) -> None:
        time.sleep(0.0001)  # others queue meanwhile
        if operation in ("append", "create") and rng.random() < 0.2:
            raise StorageFullError("full", where=key)

    def work(first: int) -> None:
        for number in range(first, first + 40):
            try:
                op(writer, number)
            except StorageFullError:
                continue
            said.append(number)

    def meddle() -> None:
        for turn in range(60):
            with contextlib.suppress(StorageFullError):
                writer.flush() if turn % 3 else writer.rotate()

    storage.before = faults
    works = [partial(work, 100 * number) for number in range(8)] + [meddle]
    threads = [threading.Thread(target=one, daemon=True) for one in works]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), f"seed {seed}"
    storage.before = lambda operation, key: None
    view = read_log(storage, NAMES, KEY)
    assert view.damages == []
    assert set(said) <= set(ops(view)), f"seed {seed}"
    assert len(said) > 50, f"seed {seed}"
