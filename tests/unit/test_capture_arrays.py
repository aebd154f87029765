"""numpy arrays in a state: what shared memory shares it again, and layouts, which decide the order of sums, are kept."""

from __future__ import annotations

import array
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from unit.capture_support import attempt, check_resumed, or_refused, plain, refusal, through_a_state, tick, visible

import ckpt

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")


def base() -> Any:
    return np.arange(24.0).reshape(4, 6)


KEPT: dict[str, Callable[[], Any]] = {
    "c order": base,
    "fortran order": lambda: np.asfortranarray(base()),
    "fortran order, big": lambda: np.asfortranarray(np.arange(9000.0).reshape(90, 100)),
    "every other": lambda: base()[::2, 1::2],
    "every other, big": lambda: np.arange(9000.0).reshape(90, 100)[::2, ::-3],
    "backwards": lambda: base()[::-1, ::-1],
    "permuted": lambda: np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
    "owned and permuted": lambda: base().reshape(2, 3, 4).transpose(1, 0, 2).copy(order="K"),
    "diagonal": lambda: np.lib.stride_tricks.as_strided(base(), (4,), (7 * 8,)),
    "repeated by stride 0": lambda: np.broadcast_to(np.arange(3.0), (4, 3)),
    "one column": lambda: base()[:, 2:3],
    "field of records": lambda: np.array([(1, 0.5), (2, 1.5)], dtype=[("key", "i1"), ("value", "f8")])["value"],
    "imaginary part": lambda: (np.arange(6) + 1j).imag,
    "no dimension": lambda: np.array(2.5),
    "no dimension, a view": lambda: base()[1, 2:3].reshape(()),
    "empty": lambda: np.empty((0, 3)),
    "empty view": lambda: base()[2:2, ::2],
    "records": lambda: np.array([(1, "ä"), (2, "b")], dtype=np.dtype([("key", "i1"), ("text", "U3")], align=True)),
    "moments": lambda: np.array(["2024-02-29", "NaT"], dtype="datetime64[D]"),
    "spans of time": lambda: np.array([1, -1], dtype="timedelta64[ms]"),
    "big endian": lambda: np.arange(6, dtype=">i4")[::2],
    "bytes": lambda: np.array([b"a", b"bcd"]),
    "over bytes": lambda: np.frombuffer(b"12345678" * 9, np.int64),
    "over a bytearray": lambda: np.frombuffer(bytearray(b"12345678" * 9), np.int64),
    "over a memoryview": lambda: np.frombuffer(memoryview(bytearray(b"12345678" * 9))[8:], np.int64),
    "from the end of its memory": lambda: np.frombuffer(bytearray(b"12345678" * 9), np.int64, offset=64),
    "of objects": lambda: np.array([[1], None, "a"], dtype=object),
    "of objects, every other": lambda: np.array([[1], None, "a"], dtype=object)[::2],
}  # fmt: skip


@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT)
def test_contents_and_layout_are_kept(make: Callable[[], Any]) -> None:
    before = make()
    after = through_a_state(before)
    assert after.dtype == before.dtype
    assert after.shape == before.shape
    assert after.tolist() == before.tolist() or "NaT" in str(before)
    assert before.dtype.hasobject or after.tobytes() == before.tobytes()
    if before.size and not before.dtype.hasobject:
        assert after.strides == before.strides
        assert after.flags.f_contiguous == before.flags.f_contiguous


@pytest.mark.parametrize("name", [name for name in KEPT if name not in ("repeated by stride 0", "over bytes")])
def test_what_could_be_written_can_be_written_again(name: str) -> None:
    before = KEPT[name]()
    after = through_a_state(before)
    assert before.flags.writeable
    assert after.flags.writeable
    after[...] = after  # raises for memory that is not the process's own


@pytest.mark.parametrize("make", [lambda a: a, lambda a: a[::2], lambda a: a[3:9]], ids=["whole", "strided", "part"])
@pytest.mark.parametrize("size", [10, 5000])
def test_read_only_array_stays_read_only(make: Callable[[Any], Any], size: int) -> None:
    before = make(np.arange(float(size)))
    before.flags.writeable = False
    assert not through_a_state(before).flags.writeable


def whole(memory: Any) -> Any:
    return memory


def nine() -> Any:
    return np.arange(9.0)


Shared = tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]
"""What owns the memory, and two arrays made from it."""
SHARING: dict[str, Shared] = {
    "array and view": (base, whole, lambda a: a[1:3, ::2]),
    "view and array": (base, lambda a: a[1:3, ::2], whole),
    "two views of an array that is not there": (base, lambda a: a[:3], lambda a: a[1:, ::-1]),
    "contiguous views": (base, lambda a: a[:3], lambda a: a[2:]),
    "transposed": (base, whole, np.transpose),
    "view of a view": (base, whole, lambda a: a[1:][::2][:, 2]),
    "fortran": (lambda: np.asfortranarray(base()), whole, lambda a: a[1]),
    "owned and permuted": (KEPT["owned and permuted"], whole, lambda a: a[1]),
    "other type": (base, whole, lambda a: a.view(np.int32)[:, 3:]),
    "field": (lambda: np.zeros(5, [("key", "i1"), ("value", "f8")]), whole, lambda a: a["value"]),
    "real part": (lambda: np.zeros(5, complex), whole, np.real),
    "windows": (nine, whole, lambda a: sliding_window_view(a, 3)),
    "as strided": (nine, whole, lambda a: as_strided(a, (3, 3), (8, 16))),
    "broadcast": (nine, whole, lambda a: np.broadcast_to(a, (2, a.size))),
    "of one bytearray": (lambda: bytearray(80), np.frombuffer, lambda m: np.frombuffer(m, offset=16)),
}
REFUSED: dict[str, Shared] = {
    "of one array.array": (
        lambda: array.array("d", [0] * 9),
        np.frombuffer,
        lambda m: np.frombuffer(m, offset=16),
    ),
    "recarray": (nine, whole, lambda a: a.view(np.recarray)),
    "masked": (nine, whole, lambda a: np.ma.masked_array(a, a > 7, copy=False)),
    "matrix": (base, whole, np.asmatrix),
}


def made(shared: Shared) -> tuple[Any, Any]:
    owner, one, other = shared
    memory = owner()
    return one(memory), other(memory)


def check_sharing(one: Any, other: Any, one_again: Any, other_again: Any) -> None:
    """The same memory is shared, byte for byte."""
    assert np.shares_memory(one_again, other_again)
    assert [a.tolist() for a in (one_again, other_again)] == [a.tolist() for a in (one, other)]
    for writer, reader in ((one_again, other_again), (other_again, one_again)):
        if not writer.flags.writeable:
            continue
        twin = one if writer is one_again else other
        looks = other if writer is one_again else one
        position = (writer.shape[0] - 1,)
        twin[position] = writer[position] = np.ones((), writer.dtype)
        assert reader.tolist() == looks.tolist()


@pytest.mark.parametrize("shared", SHARING.values(), ids=SHARING)
def test_arrays_that_share_memory_share_it_again(shared: Shared) -> None:
    one, other = made(shared)
    again = through_a_state({"one": one, "deep": [{"other": other}]})
    check_sharing(one, other, again["one"], again["deep"][0]["other"])


@pytest.mark.parametrize("shared", SHARING.values(), ids=SHARING)
def test_sharing_survives_a_second_state(shared: Shared) -> None:
    one, other = made(shared)
    once = through_a_state([one, other])
    assert np.shares_memory(*once)
    check_sharing(one, other, *through_a_state(once))


@pytest.mark.parametrize("shared", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("turned", [False, True])
def test_sharing_that_cannot_come_back_is_refused(shared: Shared, turned: bool) -> None:
    with pytest.raises(ckpt.errors.UncapturableError, match=r"shares? (its|the) memory") as refused:
        through_a_state(list(made(shared))[:: -1 if turned else 1])
    assert "copy" in refused.value.fix


@pytest.mark.parametrize("name", ["recarray", "masked", "matrix"])
def test_subclass_that_has_its_memory_for_itself_comes_back(name: str) -> None:
    before = made(REFUSED[name])[1].copy()
    after = through_a_state(before)
    assert type(after) is type(before)
    assert after.tolist() == before.tolist()


BUFFERS: dict[str, Callable[[int], Any]] = {"bytearray": bytearray, "array.array": lambda n: array.array("b", bytes(n))}


@pytest.mark.parametrize("deep", [False])
@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_array_over_a_captured_buffer_shares_it_again_or_is_refused(
    make: Callable[[int], Any], deep: bool, scratch: Path
) -> None:
    @ckpt.job(key="buffer")
    def fills() -> str:
        memory = make(80)
        over = np.frombuffer(memory, np.float64)
        kept = {"memory": memory}
        if deep:
            del memory
        for i in ckpt.loop(range(4)):
            over[i] = i + 0.5
            tick()
        return bytes(kept["memory"]).hex()

    wanted = plain(fills)
    with or_refused("variable over"):
        attempt(fills, (), scratch / "store", dies_at=2)
        assert attempt(fills, (), scratch / "store") == wanted


def test_parts_of_an_array_of_objects_are_parts_of_it_again() -> None:
    for order in "CF":
        whole = np.asarray(np.array([[[1], "a", 2], [None, {3}, 4.5]], dtype=object), order=order)
        parts = [whole[1, ::-1], whole[:, 1:], whole.T, whole[0, 1:2], whole[:0]]
        for again in (through_a_state([whole, *parts]), through_a_state([*parts, whole])[-1:] + through_a_state([*parts, whole])[:-1]):
            assert [one.shape for one in again[1:]] == [one.shape for one in parts]
            assert [one.tolist() for one in again[1:]] == [one.tolist() for one in parts]
        whole, last, _, turned, one, _ = through_a_state([whole, *parts])
        last[0], one[0] = "new", "other"
        assert (whole[1, 2], turned[2, 1], whole[0, 1]) == ("new", "new", "other")
        assert whole[0, 0] is turned[0, 0]
    named, field = (table := np.zeros(3, dtype=[("a", "i4"), ("b", "O")])), table["a"]
    with pytest.raises(ckpt.errors.UncapturableError, match="arrays of objects share memory"):
        through_a_state([named, field])


def test_refusal_of_shared_memory_names_the_variable(scratch: Path) -> None:
    @ckpt.job
    def objects() -> Any:
        table = np.zeros(3, dtype=[("a", "i4"), ("b", "O")])
        held = {"column": table["a"]}
        for i in ckpt.loop(range(3)):
            held["column"][i] = i

    @ckpt.job
    def masked() -> Any:
        whole = [np.ma.masked_array(np.arange(6.0))]
        part = whole[0][1:3]
        for i in ckpt.loop(range(3)):
            part[0] = i

    for job, names in ((objects, r"variable (table|held\['column'\])"), (masked, r"variable (part|whole\[0\])")):
        with pytest.raises(ckpt.errors.UncapturableError, match="memory") as refused:
            attempt(job, (), scratch / "store")
        assert re.search(f"{names}$", refused.value.where), refused.value.where


def test_one_object_in_two_arrays_of_objects_stays_one() -> None:
    inner: list[int] = []
    one, other = through_a_state([np.array([inner, 1], dtype=object), np.array([2, inner], dtype=object)])
    assert one[0] is other[1]


def test_part_of_a_large_array_is_saved_without_the_rest() -> None:
    from ckpt.capture.graph import Graph
    from ckpt.capture.rebuild import Scene
    from ckpt.capture.visible import Visible

    part = np.zeros((1000, 1000))[::100, ::100]
    _, buffers = Graph(Visible(), lambda kind: None).dump(part, Scene([], []))
    assert sum(buffer.raw().nbytes for buffer in buffers) < 1000 * 1000 * 8
    small = np.zeros((1000, 1000))[5]
    _, buffers = Graph(Visible(), lambda kind: None).dump(small, Scene([], []))
    assert sum(buffer.raw().nbytes for buffer in buffers) == 8000


CALLERS: dict[str, Callable[[], Any]] = {
    "c order": base,
    "fortran": lambda: np.asfortranarray(base()),
    "part": lambda: np.arange(48.0).reshape(8, 6)[2:6],
    "strided": lambda: np.arange(96.0).reshape(8, 12)[::2, ::2],
    "owned and permuted": lambda: base().reshape(2, 3, 4).transpose(1, 0, 2).copy(order="K")[:, 0],
    "over a bytearray": lambda: np.frombuffer(bytearray(192)).reshape(4, 6),
    "over a memoryview": lambda: np.frombuffer(memoryview(bytearray(200))[8:]).reshape(4, 6),
}


@pytest.mark.parametrize("make", CALLERS.values(), ids=CALLERS)
def test_view_of_a_callers_array_is_a_view_of_the_callers_array_again(make: Callable[[], Any]) -> None:
    then, now = make(), make()
    view = through_a_state({"view": then[1:3, 1:]}, visible(grid=then), visible(grid=now))["view"]
    assert view.strides == then[1:3, 1:].strides
    view[0, 1] = 99
    assert now[1, 2] == 99
    assert (now == 99).sum() == 1


def test_window_of_a_callers_array_is_one_again() -> None:
    then, now = np.arange(9.0), np.arange(9.0)
    windows = through_a_state([sliding_window_view(then, 3)], visible(series=then), visible(series=now))[0]
    now[4] = 99
    assert windows[4, 0] == 99
    assert windows[2, 2] == 99


@ckpt.job(key="views")
def views(grid: Any) -> Any:
    local = np.arange(12.0).reshape(3, 4)
    columns, corner, row = [local[:, ::2], local[:, 1::2]], local[:2, :2], grid[1]
    out = []
    for i in ckpt.loop(range(4)):
        local += i
        columns[0][i % 3] *= 2
        row += i
        tick()
        corner -= 1
        out.append((float(local.sum()), float(columns[1].sum()), float(grid.sum())))
    return out, local, np.shares_memory(corner, columns[1]), np.shares_memory(row, grid)


def test_views_see_the_same_changes_after_each_resume(scratch: Path) -> None:
    check_resumed(views, scratch / "store", lambda: (np.ones((3, 3)),))


@ckpt.job(key="rows")
def appends(items: Any) -> Any:
    for i in ckpt.loop(range(5)):
        items[i % 2] = [items[i % 2], i]
        tick()
    return list(items)


@ckpt.job(key="adds")
def adds(grid: Any) -> None:
    for i in ckpt.loop(range(5)):
        grid[..., i % 2] += i + 1
        tick()


OTHERS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "of objects": (appends, lambda: np.array([0, 0], dtype=object)),
    "matrix": (adds, lambda: np.matrix([[0, 0]])),
    "masked": (adds, lambda: np.ma.masked_array([0, 0], [False, False])),
    "recarray": (adds, lambda: np.zeros((1, 2)).view(np.recarray)),
}


@pytest.mark.parametrize(("job", "make"), OTHERS.values(), ids=OTHERS)
def test_other_array_of_the_caller_has_its_new_contents_or_is_refused(
    job: Any, make: Callable[[], Any], scratch: Path
) -> None:
    wanted, given = make(), make()
    plain(job, wanted)
    with or_refused("argument"):
        attempt(job, (make(),), scratch / "store", dies_at=3)
        attempt(job, (given,), scratch / "store")
        assert given.tolist() == wanted.tolist()


@ckpt.job(key="mapped")
def maps(path: str, mode: Any) -> Any:
    mapped = np.memmap(path, np.uint8, mode)
    total = 0
    for i in ckpt.loop(range(4)):
        total += int(mapped[i])
        tick()
    return total, type(mapped).__name__, mapped.mode


def test_file_mapped_for_reading_is_mapped_again(scratch: Path) -> None:
    (scratch / "data").write_bytes(bytes(range(50)))
    check_resumed(maps, scratch / "store", lambda: (str(scratch / "data"), "r"), lambda _, result: result)


def test_file_mapped_for_writing_is_refused_by_name(scratch: Path) -> None:
    (scratch / "data").write_bytes(bytes(range(50)))
    error = refusal(maps, scratch / "store", str(scratch / "data"), "r+")
    assert "variable mapped" in error.where
    assert "mode='r'" in error.fix


GRID = np.zeros((3, 3))


@ckpt.job(key="module")
def of_the_module(named: bool) -> Any:
    row, grid = GRID[1], GRID if named else None
    for i in ckpt.loop(range(4)):
        row += i
        tick()
    return np.shares_memory(row, GRID), grid is None or grid is GRID


@pytest.mark.parametrize("named", [False, True])
def test_view_of_a_modules_array_is_one_again_or_is_refused(named: bool, scratch: Path) -> None:
    with or_refused("variable row"):
        attempt(of_the_module, (named,), scratch / "store", dies_at=2)
        assert attempt(of_the_module, (named,), scratch / "store") == (True, True)
