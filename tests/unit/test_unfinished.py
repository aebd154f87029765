"""A new run beside unfinished ones of its job, a store that does not last: said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckpt


@ckpt.job(name="study")
def study(size: int, *, fails: bool = False) -> int:
    total = 0
    for turn in ckpt.loop(range(size)):
        total += turn
        if fails and turn == size // 2:
            raise ArithmeticError("in the middle")
    return total


def test_a_new_run_names_the_unfinished_one_of_its_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArithmeticError):
        study.options(store=tmp_path)(10, fails=True)
    capsys.readouterr()
    study.options(store=tmp_path)(9)
    said = capsys.readouterr().err
    assert study.address(10, fails=True) in said
    assert ") failed at" in said
    assert len(said.splitlines()) == 1, said


def test_a_new_run_says_nothing_of_finished_ones_nor_of_itself_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study.options(store=tmp_path)(10)
    study.options(store=tmp_path)(9)
    with pytest.raises(ArithmeticError):
        study.options(store=tmp_path)(8, fails=True)
    assert "a new run" not in capsys.readouterr().err
    with pytest.raises(ArithmeticError):
        study.options(store=tmp_path)(8, fails=True)
    assert "a new run" not in capsys.readouterr().err


def test_a_run_with_a_name_of_its_own_says_nothing_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArithmeticError):
        study.options(store=tmp_path, run_id="one")(10, fails=True)
    capsys.readouterr()
    study.options(store=tmp_path, run_id="two")(10)
    assert capsys.readouterr().err == ""


def test_a_store_in_memory_is_said_not_to_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.options(store=f"memory://{tmp_path.name}")(5)
    assert "gone when this process ends" in capsys.readouterr().err


def test_a_finished_block_that_is_entered_again_says_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with ckpt.open("block", store=tmp_path) as run:
            state = run.state(total=0)
            for turn in run.loop(range(5)):
                state.total += turn
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    assert "finished earlier" in said
