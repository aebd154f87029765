"""pandas and polars in a state: exact round trips, large contents out of band, and no memory torn apart."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unit.capture_support import check_resumed, through_a_state, tick

import ckpt
from ckpt.capture.graph import Graph
from ckpt.capture.rebuild import Scene
from ckpt.capture.visible import Visible

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pytest.importorskip("polars.testing")

ROWS = 100_000


def frame() -> Any:
    made = pandas.DataFrame(
        {
            "a": np.arange(ROWS) * 0.5,
            "b": np.arange(ROWS)[::-1] * 0.25,
            "n": np.arange(ROWS),
            "day": pandas.date_range("2020-01-01", periods=ROWS, freq="min", tz="Europe/Berlin"),
            "kind": pandas.Categorical(["x", "y"] * (ROWS // 2), ["y", "x", "z"], ordered=True),
            "maybe": pandas.array([1, None] * (ROWS // 2), dtype="Int64"),
        },
        index=pandas.Index(np.arange(ROWS) * 3, name="key"),
    )
    made.attrs["unit"] = "m"
    return made


SERIES = {
    "moments": lambda: pandas.Series(pandas.date_range("2020", periods=ROWS, freq="s")),
    "spans": lambda: pandas.Series(pandas.to_timedelta(np.arange(ROWS), unit="s"), name="span"),
    "zoned index": lambda: pandas.Series(np.arange(ROWS), pandas.date_range("2020", periods=ROWS, freq="s", tz="UTC", name="at")),
    "levels": lambda: pandas.Series(
        np.arange(ROWS), pandas.MultiIndex.from_product([range(10), range(ROWS // 10)], names=["i", None])
    ),
    "nullable": lambda: pandas.Series([True, None] * (ROWS // 2), dtype="boolean"),
}


def in_band(value: Any) -> int:
    return len(Graph(Visible(), lambda kind: None).dump(value, Scene([], []))[0])


def test_a_frame_comes_back_exactly() -> None:
    before = frame()
    after = through_a_state([before])[0]
    pandas.testing.assert_frame_equal(after, before, check_exact=True, check_freq=True)
    assert after.attrs == before.attrs
    assert in_band(before) < 5_000


@pytest.mark.parametrize("name", SERIES)
def test_a_series_comes_back_exactly_and_its_contents_are_out_of_band(name: str) -> None:
    before = SERIES[name]()
    pandas.testing.assert_series_equal(through_a_state(before), before, check_exact=True)
    assert in_band(before) < 5_000


@pytest.mark.parametrize("kind", ["str", "object"])
def test_texts_come_back_exactly(kind: str) -> None:
    before = pandas.Series(["aé", "", "x" * 40, None] * 500, dtype=kind)
    after = through_a_state(before)
    pandas.testing.assert_series_equal(after, before)


def columns() -> Any:
    return polars.DataFrame(
        {
            "n": np.arange(ROWS),
            "text": ["x" * (n % 20) for n in range(ROWS)],
            "list": [[n, None] for n in range(ROWS)],
            "day": [datetime.datetime(2020, 1, 1, n % 24, tzinfo=datetime.UTC) for n in range(ROWS)],
            "kind": polars.Series(["a", "b"] * (ROWS // 2), dtype=polars.Categorical),
        }
    )


def test_a_polars_frame_comes_back_exactly_and_its_contents_are_out_of_band() -> None:
    before = columns()
    after = through_a_state([before])[0]
    polars.testing.assert_frame_equal(after, before, check_exact=True)
    assert after.schema == before.schema
    assert in_band(before) < 5_000
    series = before["text"]
    polars.testing.assert_series_equal(through_a_state(series), series)
    assert in_band(series) < 5_000


@ckpt.job
def tables(rows: int) -> Any:
    table = pandas.DataFrame({"a": np.zeros(rows), "b": np.ones(rows)})
    also = table
    array = np.zeros(rows)
    over = pandas.DataFrame({"c": array}, copy=False)
    seen = table["a"].to_numpy()
    other = polars.DataFrame({"n": np.arange(rows)})
    for step in ckpt.loop(range(4)):
        table.loc[step, "a"] = step
        array[step] = step
        other = other.with_columns(n=polars.col("n") + step)
        tick()
        also.loc[step, "b"] = 2.0 * step
        tick()
    return table.to_numpy(), also is table, over["c"].to_numpy(), seen, array, other["n"].to_numpy()


@pytest.mark.parametrize("rows", [20, 20_000])
def test_names_of_one_table_or_memory_stay_names_of_one(tmp_path: Path, rows: int) -> None:
    check_resumed(tables, tmp_path / "store", lambda: (rows,))
