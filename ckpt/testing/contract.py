"""What ckpt relies on in a storage, as tests: subclass, override the ``storage`` fixture, run pytest.

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStorage(tmp_path)

``AppendableStorageContract`` adds what storages whose keys can grow must do. Every test gets an empty storage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ckpt.errors import MissingKeyError, StorageError
from ckpt.protocols import AppendableStorage, Buffer, Storage
from ckpt.storage.probe import probe
from ckpt.storage.uploading import PIECE
from ckpt.store.copying import share_key

BIG = bytes(range(256)) * 40_000  # 10 MB: more than one write or request takes


ODD = ("with space", "%41%2F", "a+b=c&d", "ünïcødé ✓", "UPPER", "upper", ".dot", "a.b..c", "~x", "n" * 150, "#1?x=[y]", "'q'")
"""Parts of keys that something on the way may want to quote, unquote, fold or cut."""


class StorageContract:
    """The tests for every storage."""

    many_keys = 1100
    """How many keys to list at once: more than one answer of the storage holds. Set it to fewer where that is enough."""

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError("override the storage fixture: return an empty storage")

    def test_put_then_get_returns_the_bytes(self, storage: Storage) -> None:
        assert storage.put("job/run/a", [b"one", bytearray(b""), memoryview(b"two")]) == 6
        assert storage.get("job/run/a") == b"onetwo"
        assert storage.size("job/run/a") == 6

    def test_put_replaces_what_was_there(self, storage: Storage) -> None:
        storage.put("a", [b"a longer first content"])
        storage.put("a", [b"short"])
        assert storage.get("a") == b"short"
        assert storage.size("a") == 5

    def test_empty_object_is_there(self, storage: Storage) -> None:
        assert storage.put("empty", []) == 0
        assert storage.exists("empty")
        assert storage.get("empty") == b""
        assert storage.size("empty") == 0

    def test_large_object_of_many_parts_comes_back_whole(self, storage: Storage) -> None:
        parts: list[Buffer] = [BIG, b"x" * 1000, *[bytes([i % 256]) * 777 for i in range(3000)], memoryview(BIG)]
        whole = b"".join(parts)
        assert storage.put("big", iter(parts)) == len(whole)
        assert storage.get("big") == whole

    def test_parts_may_reuse_their_memory(self, storage: Storage) -> None:
        def parts(nbytes: int) -> Iterator[Buffer]:
            scratch = bytearray(nbytes)
            for i in range(20):
                scratch[:] = bytes([i]) * nbytes
                yield scratch

        for nbytes in (10, 100_000, 1_000_000):
            storage.put("reused", parts(nbytes))
            assert storage.get("reused") == b"".join(bytes([i]) * nbytes for i in range(20))

    def test_failing_parts_leave_the_old_content(self, storage: Storage) -> None:
        def parts() -> Iterator[Buffer]:
            yield BIG
            raise RuntimeError("the source of the parts failed")

        storage.put("kept", [b"old"])
        with pytest.raises((RuntimeError, StorageError)):
            storage.put("kept", parts())
        assert storage.get("kept") == b"old"

    def test_failing_parts_leave_no_new_key(self, storage: Storage) -> None:
        def parts() -> Iterator[Buffer]:
            yield BIG
            raise RuntimeError("the source of the parts failed")

        with pytest.raises((RuntimeError, StorageError)):
            storage.put("job/never", parts())
        assert not storage.exists("job/never")
        assert storage.list("") == []

    def test_empty_object_has_empty_ranges(self, storage: Storage) -> None:
        assert storage.put_if_absent("job/empty", b"") is True
        assert storage.put_if_absent("job/empty", b"x") is False
        assert storage.get("job/empty", 0, 5) == b""
        assert storage.get("job/empty", 5) == b""
        assert storage.read_into("job/empty", 0, memoryview(bytearray(3))) == 0
        assert storage.list("job/") == ["job/empty"]

    @pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
    def test_object_about_as_long_as_a_piece_is_whole(self, storage: Storage, length: int) -> None:
        content = (BIG * 2)[:length]
        assert storage.put("pack", [content[:1000], content[1000:]]) == length
        assert storage.size("pack") == length
        assert storage.get("pack") == content
        assert storage.get("pack", length - 3, 10) == content[-3:]
        assert storage.get("pack", 1_000_003, 5000) == content[1_000_003:1_005_003]

    def test_large_object_is_created_whole_and_never_overwritten(self, storage: Storage) -> None:
        assert storage.put_if_absent("job/slot", BIG) is True
        assert storage.put_if_absent("job/slot", BIG + b"x") is False
        assert storage.get("job/slot") == BIG

    def test_ranges_end_where_the_object_ends(self, storage: Storage) -> None:
        storage.put("a", [b"0123456789"])
        assert storage.get("a", 3) == b"3456789"
        assert storage.get("a", 3, 4) == b"3456"
        assert storage.get("a", 8, 100) == b"89"
        assert storage.get("a", 10) == b""
        assert storage.get("a", 11, 5) == b""
        assert storage.get("a", 4, 0) == b""

    def test_read_into_fills_what_there_is(self, storage: Storage) -> None:
        storage.put("a", [b"0123456789"])
        target = bytearray(b"........")
        assert storage.read_into("a", 2, memoryview(target)[1:5]) == 4
        assert target == b".2345..."
        assert storage.read_into("a", 8, memoryview(target)) == 2
        assert target == b"89345..."
        assert storage.read_into("a", 10, memoryview(target)) == 0
        assert storage.read_into("a", 0, memoryview(bytearray())) == 0

    def test_read_into_reads_large_ranges(self, storage: Storage) -> None:
        storage.put("big", [b"head", BIG])
        target = bytearray(len(BIG))
        assert storage.read_into("big", 4, memoryview(target)) == len(BIG)
        assert target == BIG

    def test_missing_key_is_a_missing_key_error(self, storage: Storage) -> None:
        storage.put("job/run/there", [b"x"])
        calls: list[Callable[[str], object]] = [
            storage.get,
            storage.size,
            lambda key: storage.get(key, 1, 2),
            lambda key: storage.read_into(key, 0, memoryview(bytearray(4))),
        ]
        for key in ("absent", "job/absent", "job/run/there/absent", "job/run", "job"):
            assert not storage.exists(key), key
            for call in calls:
                with pytest.raises(MissingKeyError):
                    call(key)

    def test_put_if_absent_never_overwrites(self, storage: Storage) -> None:
        assert storage.put_if_absent("job/slot", b"first") is True
        assert storage.put_if_absent("job/slot", b"second") is False
        assert storage.put_if_absent("job/slot", b"") is False
        assert storage.get("job/slot") == b"first"

    def test_put_if_absent_respects_what_put_wrote(self, storage: Storage) -> None:
        storage.put("slot", [b"first"])
        assert storage.put_if_absent("slot", b"second") is False
        assert storage.get("slot") == b"first"

    def test_put_if_absent_creates_again_after_delete(self, storage: Storage) -> None:
        storage.put_if_absent("slot", b"first")
        storage.delete("slot")
        assert storage.put_if_absent("slot", b"second") is True
        assert storage.get("slot") == b"second"

    def test_put_if_absent_has_one_winner_among_threads(self, storage: Storage) -> None:
        for round_ in range(20):
            winners = race(storage, f"job/race-{round_}", 4)
            assert len(winners) == 1
            assert storage.get(f"job/race-{round_}") == winners[0]

    def test_put_if_absent_has_one_winner_among_many_threads(self, storage: Storage) -> None:
        for round_ in range(3):
            winners = race(storage, f"job/crowd-{round_}", 24)
            assert len(winners) == 1
            assert storage.get(f"job/crowd-{round_}") == winners[0]

    def test_odd_names_come_back_as_they_were(self, storage: Storage) -> None:
        keys = sorted(f"{part}/run/{part}" for part in ODD)
        for key in keys:
            assert not storage.exists(key), key
            assert storage.put_if_absent(key, key.encode()) is True
        assert storage.list("") == keys
        assert storage.children("") == sorted(ODD)
        for part in ODD:
            key = f"{part}/run/{part}"
            assert storage.get(key) == key.encode()
            assert storage.children(f"{part}/run") == [part]
            assert storage.list(f"{part}/r") == [key]
        storage.delete(keys[0])
        assert storage.list("") == keys[1:]

    def test_list_is_complete_however_many_keys_there_are(self, storage: Storage) -> None:
        keys = [f"job/{number % 7}/{number:05d}" for number in range(self.many_keys)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: storage.put(key, [b""]), keys))
        assert storage.list("") == sorted(keys)
        assert storage.list("job/3/") == sorted(key for key in keys if key.startswith("job/3/"))
        assert storage.children("job/3") == sorted(key[6:] for key in keys if key.startswith("job/3/"))
        assert storage.children("job") == list("0123456")

    def test_list_gives_all_keys_with_the_prefix_in_order(self, storage: Storage) -> None:
        for key in ("job/b/log/2", "job/b/log/1", "job/a/floor", "jobs/x", "top"):
            storage.put(key, [b"x"])
        assert storage.list("") == ["job/a/floor", "job/b/log/1", "job/b/log/2", "jobs/x", "top"]
        assert storage.list("job/b/") == ["job/b/log/1", "job/b/log/2"]
        assert storage.list("job/b/log/1") == ["job/b/log/1"]
        assert storage.list("job") == ["job/a/floor", "job/b/log/1", "job/b/log/2", "jobs/x"]
        assert storage.list("nothing/") == []

    def test_children_gives_the_names_directly_below(self, storage: Storage) -> None:
        for key in ("job/b/log/2", "job/b/log/1", "job/a/floor", "top"):
            storage.put(key, [b"x"])
        assert storage.children("") == ["job", "top"]
        assert storage.children("job") == ["a", "b"]
        assert storage.children("job/") == ["a", "b"]
        assert storage.children("job/b/log") == ["1", "2"]
        assert storage.children("nothing") == []

    def test_shared_bytes_have_two_keys_that_go_their_own_ways(self, storage: Storage) -> None:
        storage.put("job/a/pack/1-0.pack", [b"shared"])
        for _ in range(2):  # again, over what an interrupted one has left
            share_key(storage, "job/a/pack/1-0.pack", "job/b/pack/1-0@a.pack")
            assert storage.list("job/") == ["job/a/pack/1-0.pack", "job/b/pack/1-0@a.pack"]
        assert storage.get("job/b/pack/1-0@a.pack") == b"shared"
        storage.put("job/a/pack/1-0.pack", [b"written again"])
        assert storage.get("job/b/pack/1-0@a.pack") == b"shared"
        storage.put("job/b/pack/1-0@a.pack", [b"replaced"])
        share_key(storage, "job/a/pack/1-0.pack", "job/b/pack/1-0@a.pack")
        storage.delete("job/a/pack/1-0.pack")
        assert storage.get("job/b/pack/1-0@a.pack") == b"written again"
        with pytest.raises(MissingKeyError):
            share_key(storage, "job/a/pack/1-0.pack", "job/c/pack/1-0@a.pack")
        storage.delete("job/b/pack/1-0@a.pack")
        assert storage.list("job/") == []

    def test_deleted_key_and_its_empty_folders_are_gone(self, storage: Storage) -> None:
        storage.put("job/run/log/1", [b"x"])
        storage.put("other", [b"x"])
        storage.delete("job/run/log/1")
        assert not storage.exists("job/run/log/1")
        assert storage.list("") == ["other"]
        assert storage.children("") == ["other"]
        assert storage.children("job") == []

    def test_delete_of_an_absent_key_does_nothing(self, storage: Storage) -> None:
        storage.put("job/there", [b"x"])
        for key in ("job/absent", "nothing/absent", "job", "job/there/below"):
            storage.delete(key)
            storage.delete(key)
        assert storage.list("") == ["job/there"]
        assert storage.get("job/there") == b"x"

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "../../etc/passwd", "a\0b"])
    def test_key_that_could_leave_the_store_is_refused(self, storage: Storage, key: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: storage.get(key),
            lambda: storage.size(key),
            lambda: storage.exists(key),
            lambda: storage.read_into(key, 0, memoryview(bytearray(1))),
            lambda: storage.put(key, [b"x"]),
            lambda: storage.put_if_absent(key, b"x"),
            lambda: storage.delete(key),
        ]
        for call in calls:
            with pytest.raises(StorageError) as caught:
                call()
            assert not isinstance(caught.value, MissingKeyError)
        assert storage.list("") == []

    def test_probe_accepts_it_and_leaves_nothing(self, storage: Storage) -> None:
        probe(storage)
        assert storage.list("") == []


class AppendableStorageContract(StorageContract):
    """The tests for storages whose keys can grow."""

    @pytest.fixture
    def storage(self) -> AppendableStorage:
        raise NotImplementedError("override the storage fixture: return an empty appendable storage")

    def test_it_is_appendable(self, storage: AppendableStorage) -> None:
        assert isinstance(storage, AppendableStorage)

    def test_appended_bytes_follow_the_head(self, storage: AppendableStorage) -> None:
        file = storage.create_append("job/log/1", b"head")
        assert file is not None
        assert file.length == 4
        file.append([b"one", bytearray(b""), memoryview(b"two")])
        file.append([BIG, b"end"])
        assert file.length == 4 + 6 + len(BIG) + 3
        assert storage.get("job/log/1") == b"headonetwo" + BIG + b"end"
        file.sync()
        file.close()
        assert storage.size("job/log/1") == 13 + len(BIG)
        assert not file.broken

    def test_create_append_leaves_what_exists(self, storage: AppendableStorage) -> None:
        storage.put("job/log/1", [b"first"])
        assert storage.create_append("job/log/1", b"second") is None
        assert storage.get("job/log/1") == b"first"

    def test_create_append_and_put_if_absent_exclude_each_other(self, storage: AppendableStorage) -> None:
        file = storage.create_append("slot", b"mine")
        assert file is not None
        assert storage.put_if_absent("slot", b"theirs") is False
        assert storage.create_append("slot", b"theirs") is None
        file.append([b"!"])
        file.close()
        assert storage.get("slot") == b"mine!"

    def test_failing_append_leaves_the_end_where_it_was(self, storage: AppendableStorage) -> None:
        def parts() -> Iterator[Buffer]:
            yield BIG
            raise RuntimeError("the source of the parts failed")

        file = storage.create_append("slot", b"head")
        assert file is not None
        file.append([b"kept"])
        with pytest.raises(RuntimeError):
            file.append(parts())
        assert file.length == 8
        assert storage.get("slot") == b"headkept"
        file.append([b"-next"])
        file.close()
        assert storage.get("slot") == b"headkept-next"

    def test_make_durable_changes_nothing_of_a_key_that_is_there(self, storage: AppendableStorage) -> None:
        file = storage.create_append("job/log/1", b"head")
        assert file is not None
        file.append([b"-more"])
        storage.make_durable("job/log/1")
        assert storage.get("job/log/1") == b"head-more"
        file.append([b"-still"])
        file.close()
        assert storage.get("job/log/1") == b"head-more-still"
        for key in ("job/log/2", "job/log", "nothing/1"):
            with pytest.raises(MissingKeyError):
                storage.make_durable(key)

    def test_closed_file_takes_nothing_more(self, storage: AppendableStorage) -> None:
        file = storage.create_append("slot", b"head")
        assert file is not None
        file.close()
        file.close()
        calls: list[Callable[[], None]] = [lambda: file.append([b"x"]), file.sync]
        for call in calls:
            with pytest.raises(StorageError):
                call()
        assert storage.get("slot") == b"head"


def race(storage: Storage, key: str, creators: int) -> list[bytes]:
    """Let ``creators`` threads create ``key`` at once; the contents of those that were told to have won."""
    won: list[bytes] = []
    together = threading.Barrier(creators)

    def create(mine: bytes) -> None:
        together.wait()
        if storage.put_if_absent(key, mine):
            won.append(mine)

    threads = [threading.Thread(target=create, args=(b"creator %d" % i,)) for i in range(creators)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won
