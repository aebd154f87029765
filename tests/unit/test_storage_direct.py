"""Large files past the page cache: the same bytes, whatever their sizes, the file system and the disk do."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random

import pytest

from ckpt.errors import StorageError, StorageFullError
from ckpt.storage import direct
from ckpt.storage.local import LocalStorage

SEED = random.SystemRandom().getrandbits(32)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(direct, "BLOCK", 4 * direct.ALIGNED)


def is_direct(fd):
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0))


def test_what_is_written_is_what_was_given(tmp_path):
    rng, storage = random.Random(SEED), LocalStorage(tmp_path)
    for _ in range(60):
        sizes = rng.choices([0, 1, 63, 4095, 4096, 4097, 16383, 16384, 16385, 50_000], k=rng.randrange(12))
        parts = [rng.randbytes(size) for size in sizes]
        assert storage.put("key", [somewhere(part, rng) for part in parts]) == sum(sizes)
        assert storage.get("key") == b"".join(parts), f"seed {SEED}"


def somewhere(data, rng):
    """``data`` in memory of its own: at the beginning of a page, or not."""
    start = rng.choice((0, 0, 1, 64))
    memory = mmap.mmap(-1, len(data) + 64)
    memory[start : start + len(data)] = data
    return memoryview(memory)[start : start + len(data)]


def test_aligned_memory_is_written_from_where_it_is(tmp_path, monkeypatch):
    seen, pwritev = [], os.pwritev

    def watched(fd, views, at):
        seen.extend((is_direct(fd), view.obj) for view in views)
        return pwritev(fd, views, at)

    monkeypatch.setattr(os, "pwritev", watched)
    pages = mmap.mmap(-1, 8 * direct.BLOCK)
    pages[:] = random.Random(SEED).randbytes(len(pages))
    begin = bytes(2 * direct.ALIGNED)
    assert LocalStorage(tmp_path).put("key", [begin, pages, b"end"]) == len(begin) + len(pages) + 3
    if not any(flag for flag, _ in seen):
        pytest.skip("this file system has no O_DIRECT")
    assert sum(owner is pages for _, owner in seen) >= 6
    assert LocalStorage(tmp_path).get("key") == begin + pages[:] + b"end"


def test_a_large_file_goes_past_the_page_cache(tmp_path, monkeypatch):
    seen = []
    pwritev = os.pwritev

    def watched(fd, views, at):
        seen.append((is_direct(fd), sum(view.nbytes for view in views)))
        return pwritev(fd, views, at)

    monkeypatch.setattr(os, "pwritev", watched)
    LocalStorage(tmp_path).put("key", [bytes(10 * direct.BLOCK + 5000)])
    if not any(flag for flag, _ in seen):
        pytest.skip("this file system has no O_DIRECT")
    assert sum(size for flag, size in seen if flag) == 10 * direct.BLOCK + 4096
    seen.clear()
    LocalStorage(tmp_path).put("key", [bytes(direct.BLOCK)])
    assert not any(flag for flag, _ in seen)


def failing(monkeypatch, outcome):
    """``outcome(call number, fd, views)``: bytes to write at most, or an OSError."""
    pwritev, calls = os.pwritev, []

    def patched(fd, views, at):
        calls.append(fd)
        most = outcome(len(calls), fd)
        if isinstance(most, OSError):
            raise most
        return pwritev(fd, [memoryview(b"".join(views))[:most]] if most else views, at)

    monkeypatch.setattr(os, "pwritev", patched)


@pytest.mark.parametrize("fails", [1, 3, 6])
@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, StorageFullError), (errno.EIO, StorageError)])
def test_an_error_of_the_disk_leaves_nothing_behind(tmp_path, monkeypatch, fails, number, error):
    storage = LocalStorage(tmp_path)
    storage.put("key", [b"old"])
    failing(monkeypatch, lambda call, _fd: OSError(number, "injected") if call == fails else 0)
    with pytest.raises(error):
        storage.put("key", [random.Random(1).randbytes(6 * direct.BLOCK + 77)])
    assert storage.get("key") == b"old"
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("short", [100, direct.ALIGNED])
def test_a_write_that_takes_only_a_part_is_gone_on_with(tmp_path, monkeypatch, short):
    data = random.Random(SEED).randbytes(6 * direct.BLOCK + 77)
    failing(monkeypatch, lambda call, fd: 0 if call % 2 or (short % direct.ALIGNED and is_direct(fd)) else short)
    storage = LocalStorage(tmp_path)
    assert storage.put("key", [data]) == len(data)
    assert storage.get("key") == data


def test_a_file_system_that_refuses_direct_writes_gets_ordinary_ones(tmp_path, monkeypatch):
    data = random.Random(SEED).randbytes(6 * direct.BLOCK + 77)
    refused = OSError(errno.EINVAL, "injected")
    failing(monkeypatch, lambda _call, fd: refused if is_direct(fd) else 0)
    storage = LocalStorage(tmp_path)
    assert storage.put("key", [data]) == len(data)
    assert storage.get("key") == data


def test_parts_that_end_with_an_error_leave_nothing_behind(tmp_path):
    def parts():
        yield bytes(5 * direct.BLOCK)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        LocalStorage(tmp_path).put("key", parts())
    assert os.listdir(tmp_path) == []
