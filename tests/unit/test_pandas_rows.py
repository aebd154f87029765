"""Rows of pandas frames in variables, which share arrays of objects with the frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import check_resumed, tick

import ckpt


def test_rows_of_a_frame_in_variables_come_back(scratch: Path) -> None:
    pandas = pytest.importorskip("pandas")

    @ckpt.job
    def job() -> Any:
        frame = pandas.DataFrame({"name": ["a", "b", "c"], "x": [0.5, 1.5, 2.5]})
        total, row = 0.0, None
        for index, row in ckpt.loop(list(frame.iterrows())):
            total += row["x"]
            frame.loc[index, "x"] = total
            tick()
        return total, row["name"], frame["x"].tolist(), [*frame.columns]

    check_resumed(job, scratch / "store")
