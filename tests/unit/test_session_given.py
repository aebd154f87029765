"""What a loop was given, and who else holds it: however the call is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import attempt, tick

import ckpt

ITEMS: list[Any] = []


def found() -> list[Any]:
    return [*ITEMS]


def plainly() -> Any:
    done = []
    for item in ckpt.loop(found()):
        done.append(item)
        tick()
    return done


def with_a_name() -> Any:
    done = []
    for item in ckpt.loop(found(), name="letters", progress=False):
        done.append(item)
        tick()
    return done


def by_keyword() -> Any:
    done = []
    for item in ckpt.loop(iterable=found()):
        done.append(item)
        tick()
    return done


def with_options_of_a_variable() -> Any:
    options, done = {"name": "letters"}, []
    for item in ckpt.loop(found(), **options):
        done.append(item)
        tick()
    return done


def with_no_options() -> Any:
    done = []
    for item in ckpt.loop(found(), **{}):  # noqa: PIE804 - the form of the call is what is tried
        done.append(item)
        tick()
    return done


def with_arguments_of_a_variable() -> Any:
    rest, done = ("letters",), []
    for item in ckpt.loop(found(), *rest):
        done.append(item)
        tick()
    return done


def with_arguments_of_a_literal() -> Any:
    done = []
    for item in ckpt.loop(*[found()], **{"name": "letters"}):  # noqa: PIE804 - the form of the call is what is tried
        done.append(item)
        tick()
    return done


def with_everything_in_a_dict() -> Any:
    done = []
    for item in ckpt.loop(**{"iterable": found()}):  # noqa: PIE804 - the form of the call is what is tried
        done.append(item)
        tick()
    return done


def from_a_variable() -> Any:
    items, done = found(), []
    for item in ckpt.loop(items):
        done.append(item)
        tick()
    return done


def from_a_variable_with_options() -> Any:
    items, options, done = found(), {"name": "letters"}, []
    for item in ckpt.loop(items, **options):
        done.append(item)
        tick()
    return done


def from_a_tuple_in_a_variable() -> Any:
    arguments, done = (found(),), []
    for item in ckpt.loop(*arguments):
        done.append(item)
        tick()
    return done


def from_a_dict_in_a_variable() -> Any:
    options, done = {"iterable": found()}, []
    for item in ckpt.loop(**options):
        done.append(item)
        tick()
    return done


ITSELF = [
    plainly,
    with_a_name,
    by_keyword,
    with_options_of_a_variable,
    with_no_options,
    with_arguments_of_a_variable,
    with_arguments_of_a_literal,
    with_everything_in_a_dict,
]
IN_A_VARIABLE = [
    from_a_variable,
    from_a_variable_with_options,
    from_a_tuple_in_a_variable,
    from_a_dict_in_a_variable,
]


def with_an_item_more(function: Callable[[], Any], folder: Path) -> Any:
    """The result of a run over a, b, c that died in its second item and went on when d had been added."""
    job = ckpt.job(function)
    ITEMS[:] = "abc"
    attempt(job, (), folder, dies_at=2)
    ITEMS[:] = "abcd"
    return attempt(job, (), folder)


@pytest.mark.parametrize("function", ITSELF)
def test_items_added_to_what_only_the_loop_holds_are_processed(function: Callable[[], Any], scratch: Path) -> None:
    assert with_an_item_more(function, scratch / "store") == [*"abcd"]


@pytest.mark.parametrize("function", IN_A_VARIABLE)
def test_a_list_that_a_variable_leads_to_comes_back_as_it_was(function: Callable[[], Any], scratch: Path) -> None:
    assert with_an_item_more(function, scratch / "store") == [*"abc"]
