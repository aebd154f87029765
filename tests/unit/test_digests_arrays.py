"""Digests of arrays, frames and tensors: by content, whatever the layout, and nothing is copied whole."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from ckpt.digests import digest
from ckpt.errors import IdentityError

numpy = pytest.importorskip("numpy")


def test_layout_of_an_array_does_not_matter() -> None:
    base = numpy.arange(24, dtype="f8").reshape(2, 3, 4)
    same = [
        base.copy(),
        numpy.asfortranarray(base),
        numpy.repeat(base, 2, axis=2)[:, :, ::2],
        base[::-1][::-1],
        base.transpose(2, 0, 1).copy().transpose(1, 2, 0),
    ]
    assert {digest(array) for array in same} == {digest(base)}


def test_strided_array_larger_than_a_block_counts_by_content() -> None:
    base = numpy.arange(400_000, dtype="i4").reshape(2, -1)
    assert digest(numpy.asfortranarray(base)) == digest(base)
    changed = base.copy()
    changed[1, -1] += 1
    assert digest(numpy.asfortranarray(changed)) != digest(base)


def test_type_shape_and_content_of_an_array_count() -> None:
    different: list[Any] = [
        numpy.arange(4), numpy.arange(4, dtype="i4"), numpy.arange(4, dtype=">i8"), numpy.arange(4).reshape(2, 2),
        numpy.arange(4).reshape(4, 1), numpy.arange(5), numpy.zeros(0), numpy.zeros((0, 1)), numpy.zeros((1, 0)),
        numpy.array(1), numpy.int64(1), 1, numpy.float64(1), 1.0, numpy.bool_(True), True, numpy.str_("a"), "a",
        numpy.array(["a", "b"]), numpy.array(["a", "bc"]), numpy.array(["a", "b"], dtype=object), [0, 1, 2, 3],
        numpy.array([[1], 2], dtype=object), numpy.array([[2], 1], dtype=object),
        numpy.array(["2020", "2021"], dtype="M8[Y]"), numpy.array(["2020", "2021"], dtype="M8[D]"),
        numpy.zeros(2, dtype=[("a", "i4"), ("b", "f8")]), numpy.zeros(2, dtype=[("a", "i4"), ("c", "f8")]),
        numpy.zeros(2, dtype=numpy.longdouble), -numpy.zeros(2, dtype=numpy.longdouble),
        numpy.zeros(2), -numpy.zeros(2), numpy.ma.array([1, 2], mask=[0, 1]), numpy.ma.array([1, 2], mask=[1, 0]),
        numpy.dtype("f8"), numpy.dtype("f4"), numpy.float64, numpy.sin, numpy.cos, numpy.mean, numpy.matrix([[1]]),
        numpy.array([[1]]), numpy.array(["a"], dtype=numpy.dtypes.StringDType()),
    ]  # fmt: skip
    assert len({digest(value) for value in different}) == len(different)
    assert [digest(value) for value in different] == [digest(value) for value in different]


def test_padding_has_no_content() -> None:
    kind = numpy.dtype([("a", "i1"), ("b", "f8")], align=True)
    clean, dirty = numpy.zeros(3, dtype=kind), numpy.frombuffer(b"\xff" * 3 * kind.itemsize, dtype=kind).copy()
    dirty["a"] = dirty["b"] = 0
    assert digest(clean) == digest(dirty)
    bits = numpy.frombuffer(b"\xff" * 16, dtype="u1").copy()
    one = bits.view(numpy.longdouble)
    one[0] = 1
    if one.itemsize == 16 and numpy.finfo(numpy.longdouble).nmant == 63:
        bits[10:] = 255
    assert digest(one) == digest(numpy.ones(1, dtype=numpy.longdouble))


def test_masked_content_and_memory_maps_count_by_content(tmp_path: Path) -> None:
    mapped = numpy.memmap(tmp_path / "a", dtype="i4", mode="w+", shape=(3,))
    mapped[:] = [1, 2, 3]
    again = numpy.memmap(tmp_path / "b", dtype="i4", mode="w+", shape=(3,))
    again[:] = [1, 2, 3]
    assert digest(mapped) == digest(again)
    again[0] = 0
    assert digest(mapped) != digest(again)


def test_generators_count_by_state() -> None:
    left, right = numpy.random.default_rng(1), numpy.random.default_rng(1)
    assert digest(left) == digest(right)
    left.random()
    assert digest(left) != digest(right)
    right.random()
    assert digest(left) == digest(right)
    old = [numpy.random.RandomState(1), numpy.random.RandomState(1), numpy.random.RandomState(2)]
    assert digest(old[0]) == digest(old[1]) != digest(old[2])
    assert digest(numpy.random.SeedSequence(1)) == digest(numpy.random.SeedSequence(1))
    assert digest(numpy.random.PCG64(1)) != digest(numpy.random.MT19937(1))


def test_large_array_is_not_copied() -> None:
    array = numpy.zeros(4_000_000)
    strided = numpy.zeros((2000, 4000))[:, ::2]
    tracemalloc.start()
    try:
        digest([array, strided, strided.T])
        assert tracemalloc.get_traced_memory()[1] < array.nbytes / 8
    finally:
        tracemalloc.stop()


def test_item_without_a_digest_inside_an_array_is_named() -> None:
    with pytest.raises(IdentityError) as refused:
        digest(numpy.array([1, object()], dtype=object), "table")
    assert refused.value.where == "table[1]"


def test_estimators_are_ordinary_instances() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    make = linear_model.LogisticRegression
    assert digest(make(C=1.0)) == digest(make(C=1.0)) != digest(make(C=2.0))
    fitted = [make().fit([[0.0], [1.0]], [0, 1]) for _ in range(2)]
    assert digest(fitted[0]) == digest(fitted[1]) != digest(make())


def test_pandas_counts_by_content() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", None]})
    assert digest(frame) == digest(frame.copy())
    assert digest(frame) == digest(frame[["a"]].join(frame[["b", "c"]]))
    different = [
        frame, frame[["b", "a", "c"]], frame.rename(columns={"a": "z"}), frame.set_index("a"), frame.astype({"a": "i4"}),
        frame.assign(a=[1, 3]), frame.assign(c=["x", "y"]), frame.iloc[::-1], frame.iloc[:1], frame["a"], frame["b"],
        frame["c"], frame.index, frame.columns, frame["a"].astype("Int64"), frame["c"].astype("category"),
        pandas.Series(pandas.Categorical(["x", "y"], ["x", "y"], ordered=True)), pandas.Series(pandas.Categorical(["x", "y"])),
        pandas.Series(pandas.date_range("2020", periods=2)), pandas.Series(pandas.date_range("2020", periods=2, tz="UTC")),
        pandas.Series(pandas.date_range("2020", periods=2, tz="Europe/Berlin")), pandas.Timestamp("2020"),
        pandas.Timestamp("2020", tz="UTC"), pandas.Timedelta(1), pandas.NaT, pandas.NA, pandas.Period("2020"),
        pandas.Interval(0, 1), pandas.Index([0, 1]), pandas.RangeIndex(3), pandas.array([1, None]),
        pandas.MultiIndex.from_product([[1, 2], ["a"]]), pandas.MultiIndex.from_product([[1, 2], ["b"]]),
        pandas.Series([pandas.Interval(0, 1)]), pandas.Series(pandas.period_range("2020", periods=2, freq="M")),
    ]  # fmt: skip
    assert len({digest(value) for value in different}) == len(different)
    assert [digest(value) for value in different] == [digest(value) for value in different]
    levels = pandas.MultiIndex.from_product([[1, 2], ["a"]])
    assert digest(levels[:1]) == digest(levels[:1].remove_unused_levels())


def test_polars_counts_by_content() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", None], "d": [[1], []]})
    assert digest(frame) == digest(frame.clone())
    different = [
        frame, frame.select("b", "a", "c", "d"), frame.rename({"a": "z"}), frame.reverse(), frame.head(1), frame["a"],
        frame["a"].cast(polars.Int32), frame["b"], frame["c"], frame["d"], polars.Series("a", [1, 3]),
    ]  # fmt: skip
    assert len({digest(value) for value in different}) == len(different)
    with pytest.raises(IdentityError):
        digest(frame.lazy())


def test_torch_counts_by_content() -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(6.0).reshape(2, 3)
    assert digest(base) == digest(base.t().contiguous().t())
    different = [base, base.double(), base.bfloat16(), base.reshape(3, 2), base + 1, torch.tensor(1.0), torch.nn.Parameter(base),
                 torch.float32, torch.device("cpu"), torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)]  # fmt: skip
    assert len({digest(value) for value in different}) == len(different)
    with pytest.raises(IdentityError):
        digest(base.to_sparse())


def test_no_library_is_imported() -> None:
    import subprocess

    code = "import sys; from ckpt.digests import digest; digest([1, {'a': 2.0}, print]); print('numpy' in sys.modules)"
    words = [sys.executable, "-c", code]
    assert subprocess.check_output(words, text=True, cwd=Path(__file__).parents[2]).strip() == "False"
