"""What is said of maps that failed: by the job when it ends, and by ``ckpt failed`` afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ckpt
from ckpt.cli.main import cli
from ckpt.errors import ItemTimeoutError


def above_two(x: int) -> int:
    if x > 2:
        raise ValueError(f"{x}\n  is too\n\n  much")
    return x


def times_out(x: int) -> int:
    raise ItemTimeoutError("it took too long", fix="give it more time")


def fails(x: int) -> int:
    raise ValueError("never")


@ckpt.job(key="one", name="collects")
def collects(function: Any) -> list[str]:
    return [str(one.error) for one in ckpt.map(function, [3, 4], on_error="collect") if isinstance(one, ckpt.Failed)]


@pytest.mark.parametrize(("function", "row"), [
    (times_out, "ItemTimeoutError: it took too long; fix: give it more time (1 attempt, "),
    (above_two, "ValueError: {}; is too; much (1 attempt, "),
])  # fmt: skip
def test_failed_item_is_one_row_whatever_its_error_says(function: Any, row: str, tmp_path: Path) -> None:
    errors = collects.options(store=tmp_path / "store")(function)
    assert all("\n" in error for error in errors), "the error itself has all its lines"
    lines = CliRunner().invoke(cli, ["failed", "collects", "--store", str(tmp_path / "store")]).output.splitlines()
    assert len(lines) == 2
    for item, line in zip((3, 4), sorted(lines, key=lambda line: line.split("  ")[2]), strict=True):
        assert row.format(item) in line


@ckpt.job(key="one", name="only-a-map")
def only_a_map(function: Any, items: list[int], first: Any = None) -> list[int]:
    if first is not None:
        ckpt.step(first)(1)
    return list(ckpt.map(function, items, max_workers=1))


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "failed; " in line]


SAVED = "ckpt: only-a-map/one: failed; the recorded results of its steps and maps are saved: mend it and start it again"


def test_job_of_a_map_that_failed_says_that_results_are_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = only_a_map.options(store=tmp_path / "store")
    with pytest.raises(ValueError, match="too"):
        run(above_two, [1, 2, 3])
    assert said(capsys) == [SAVED]
    with pytest.raises(ValueError, match="too"):
        run(above_two, [1, 2, 3])
    assert said(capsys) == [SAVED], "what earlier attempts recorded counts"


def test_job_whose_items_all_failed_claims_to_have_saved_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="never"):
            only_a_map.options(store=tmp_path / "store")(fails, [1])
        assert said(capsys) == []


def test_job_that_failed_behind_a_step_says_that_results_are_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="never"):
        only_a_map.options(store=tmp_path / "store")(fails, [1], above_two)
    assert said(capsys) == [SAVED]
