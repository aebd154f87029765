"""Helpers with a marked loop are called in the middle of expressions: what those hold on to is refused or exact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import check_resumed, refusal, tick

import ckpt
from ckpt.capture.slots import operands


def push(row: Any) -> int:
    for i in ckpt.loop(range(2)):
        row.append(i)
        tick()
    return len(row)


def pushed(row: Any) -> Any:
    push(row)
    return row


def first(rows: Any) -> Any:
    return rows[0]


class Adder:
    def __add__(self, row: Any) -> int:
        return push(row)


@ckpt.job(key="1")
def comprehension_over_a_copy() -> Any:
    rows = [[1], [2], [3]]
    return [push(row) for row in sorted(rows)], rows


@ckpt.job(key="1")
def generator_expression_over_a_copy() -> Any:
    rows = [[1], [2], [3]]
    return sum(push(row) for row in sorted(rows)), rows


@ckpt.job(key="1")
def generator_expression_in_a_variable() -> Any:
    rows = [[1], [2], [3]]
    numbers = (push(row) for row in tuple(rows))
    total = 0
    for number in numbers:
        total += number
    return total, rows


@ckpt.job(key="1")
def items_come_back_out_of_a_comprehension() -> Any:
    rows = [[1], [2], [3]]
    same = [pushed(row) for row in rows]
    same[0].append(7)
    return rows


@ckpt.job(key="1")
def mapped() -> Any:
    rows = [[1], [2], [3]]
    return list(map(push, rows)), rows


@ckpt.job(key="1")
def sorted_by_a_helper() -> Any:
    rows = [[1], [2], [3]]
    return sorted(rows, key=push), rows


@ckpt.job(key="1")
def sorted_in_place_by_a_helper() -> Any:
    rows = [[1], [2], [3]]
    rows.sort(key=lambda row: -push(row))
    return rows


@ckpt.job(key="1")
def starred_into_a_list() -> Any:
    one, other = [1], [2]
    both = (one, other)
    rows = [*both, push(one)]
    rows[1].append(7)
    return one, other, both


@ckpt.job(key="1")
def argument_found_by_an_expression() -> Any:
    rows, place = [[1], [2], [3]], 0
    list.append(rows[place + 1], push(rows[0]) + push(rows[2]))
    return rows


@ckpt.job(key="1")
def argument_found_by_a_call() -> Any:
    rows, other = [[1], [2]], [3]
    list.append(first(rows), push(other) + push(other))
    return rows, other


@ckpt.job(key="1")
def operator_beside_an_item() -> Any:
    rows, place, other = [[1], [2]], 0, [3]
    both = [rows[place + 1], Adder() + other, Adder() + other]
    both[0].append(7)
    return rows, other


@ckpt.job(key="1")
def old_value_of_an_augmented_assignment() -> Any:
    rows, place, other = [[1], [2]], 0, [3]
    rows[place + 1] += [push(other), push(other)]
    alias = rows[1]
    alias.append(5)
    return rows, other


JOBS = (comprehension_over_a_copy, generator_expression_over_a_copy, generator_expression_in_a_variable,
        items_come_back_out_of_a_comprehension, mapped, sorted_by_a_helper, sorted_in_place_by_a_helper,
        starred_into_a_list, argument_found_by_an_expression, argument_found_by_a_call, operator_beside_an_item,
        old_value_of_an_augmented_assignment)  # fmt: skip


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__wrapped__.__name__)
def test_expression_that_holds_objects_which_would_come_back_as_others_is_refused(job: Any, scratch: Path) -> None:
    error = refusal(job, scratch / "store")
    assert job.__wrapped__.__name__ in error.where
    assert "would come back as another object" in error.what
    assert "ckpt.loop(" in error.fix


def folded(model: Any, fold: int) -> float:
    for i in ckpt.loop(range(2)):
        model["weights"][0].append(fold * i)
        tick()
    return float(len(model["weights"][0]))


@ckpt.job(key="1")
def exact_in_one_line() -> Any:
    model: dict[str, Any] = {"weights": [[1], [2]]}
    folds, rows = [1, 2, 3], [[4], [5]]
    scores = [folded(model, fold) for fold in folds]
    total = sum(folded(model, fold) for fold in reversed(folds))
    best = max([2, 1], key=lambda fold: folded(model, fold))
    order = sorted(folds, key=lambda fold: -folded(model, fold))
    lengths = [push(row) for row in rows]
    pairs = {place: (push(row), [place]) for place, row in enumerate(rows)}
    both = [rows, *folds, {"n": push(rows[0])}, pushed(rows[1])]
    both[0][1].append(both[-1] is rows[1])
    return model, scores, total, best, order, lengths, pairs, both


def test_expressions_over_numbers_and_over_a_list_itself_are_exact(scratch: Path) -> None:
    check_resumed(exact_in_one_line, scratch / "store")


def looked_at(frame: Any) -> list[Any] | None:
    return operands(frame)


def test_stack_of_a_frame_that_waits_for_a_python_function_is_read() -> None:
    marker = object()
    found = [marker, {"key": marker, "other": looked_at(sys._getframe())}]
    assert found[1]["other"].count(marker) == 2


def test_stack_of_a_frame_that_waits_for_c_is_not_read() -> None:
    assert list(map(looked_at, [sys._getframe()])) == [None]
