"""Forms: a marked loop runs while the interpreter holds half-made values: lists, calls, sorts, formatted text."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

from programs.registry import form
from programs.ticks import tick

import ckpt


def score(base: int, log: list[int]) -> int:
    total = 0
    for k in ckpt.loop(range(2)):
        tick()
        total += base * 10 + k
        log.append(total)
    return total


@ckpt.job
def comprehension() -> Any:
    log: list[int] = []
    first = [score(base, log) for base in (3, 1, 2)]
    second = {base: score(base, log) for base in (5, 4)}
    tick()
    return first, second, log


@form
def helpers_called_in_comprehensions() -> object:
    return comprehension()


@ckpt.job
def sorting() -> Any:
    log: list[int] = []
    ordered = sorted([3, 1, 2], key=lambda base: -score(base, log))
    best = max(map(functools.partial(score, log=log), [4, 6, 5]))
    return ordered, best, log


@form
def helpers_called_by_sorted_and_map() -> object:
    return sorting()


@ckpt.job
def targets() -> Any:
    log: list[int] = []
    table: dict[str, Any] = {"n": 0}
    names = ["a", "b"]
    turn = 0
    while turn < 3:
        turn += 1
        table[names[turn % 2]] = [turn, score(turn, log), len(log)]
        table["n"] += score(turn, log) if turn != 2 else 1000
        tick()
    return table, log


@form
def while_with_subscripts_and_half_made_lists() -> object:
    return targets()


@ckpt.job
def chained() -> Any:
    log: list[int] = []
    text, count = "", 0
    while count < 3:
        text = f"{text}<{count}:{score(count, log)}:{score(count + 1, log)}>"
        count = count + 1
    for letter in "xy":
        text += letter + str(score(ord(letter) % 7, log))
    both = score(1, log) > 0 and score(2, log)
    return text, both, log


@form
def formatted_text_and_conditions() -> object:
    return chained()


def traced(function: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> int:
        before = len(args[1])
        return function(*args) + before * 1000

    return wrapper


@traced
def decorated(base: int, log: list[int]) -> int:
    return score(base, log)


@ckpt.job
def calls_decorated() -> Any:
    log: list[int] = []
    total = 0
    for base in ckpt.loop(range(3)):
        total += decorated(base, log)
        tick()
    return total, log


@form
def helper_under_a_decorator() -> object:
    return calls_decorated()


@ckpt.job
def assigned() -> Any:
    log: list[int] = []
    rounds = ckpt.loop(range(5))
    for i in rounds:
        tick()
        log.append(i)
    for _ in rounds:
        log.append(-1)
    tick()
    return log


@form
def loop_kept_in_a_variable() -> object:
    return assigned()


def descend(depth: int, log: list[int]) -> int:
    total = depth
    for i in ckpt.loop(range(2 if depth % 8 == 0 else 1)):
        log.append(depth)
        total += descend(depth - 1, log) * (i + 1) if depth else i
    if depth in (0, 5):
        tick()
    return total


@ckpt.job
def deep() -> Any:
    log: list[int] = []
    return descend(16, log), log


@form
def recursion_sixteen_deep() -> object:
    return deep()


def batches(rng: random.Random, count: int) -> Any:
    for _ in range(count):
        yield [rng.random() for _ in range(2)]


@ckpt.job
def drawn_input() -> Any:
    rng = random.Random(3)
    log: list[Any] = []
    for batch in ckpt.loop(list(batches(rng, 5))):
        tick()
        log.append(sum(batch) * rng.random())
    for number in ckpt.loop([random.random() for _ in range(4)]):
        tick()
        log.append(number + random.random())
    return log, rng.random(), random.random()


@form
def items_drawn_from_the_generator_that_the_body_uses() -> object:
    random.seed(5)
    return drawn_input()


@ckpt.job
def returns_in_finally() -> Any:
    log: list[Any] = []

    def inner(n: int) -> int:
        try:
            for i in ckpt.loop(range(n)):
                tick()
                log.append(i)
                if i == 2:
                    raise ValueError("lost")
        finally:
            return len(log)  # noqa: B012

    for n in ckpt.loop([2, 5, 3]):
        log.append(("length", inner(n)))
    tick()
    return log


@form
def return_in_finally_swallows_the_exception() -> object:
    return returns_in_finally()
