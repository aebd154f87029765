"""Forms: ways through and out of one marked loop, loops in sequence, and loops in loops."""

from __future__ import annotations

import random
from typing import Any

from programs.registry import form
from programs.ticks import tick

import ckpt


@ckpt.job
def breaks(n: int) -> Any:
    total, seen = 0.0, []
    tick()
    for i in ckpt.loop(range(n)):
        tick()
        total += i / 3
        seen.append(i)
        if i == 6:
            break
        tick()
    tick()
    after = total * 2
    return total, seen, after, i


@form
def break_leaves_the_loop() -> object:
    return breaks(12)


@ckpt.job
def continues(n: int) -> Any:
    odd, even = [], []
    for i in ckpt.loop(range(n)):
        tick()
        if i % 2:
            odd.append(i)
            continue
        even.append(i)
        tick()
    tick()
    return odd, even, i


@form
def continue_skips_the_rest() -> object:
    return continues(10)


@ckpt.job
def returns(n: int) -> Any:
    rng = random.Random(5)
    total = 0.0
    for i in ckpt.loop(range(n)):
        tick()
        total += rng.random()
        if total > 4:
            tick()
            return total, i
    return None


@form
def return_from_the_loop() -> object:
    return returns(50)


@ckpt.job
def finds_no_break(n: int) -> Any:
    total = 0
    for i in ckpt.loop(range(n)):
        tick()
        total += i
    tick()
    total += 1000
    tick()
    return total


@form
def for_else_without_break() -> object:
    return finds_no_break(8)


@ckpt.job
def two_loops(n: int) -> Any:
    rng = random.Random(1)
    first: list[float] = []
    second: list[float] = []
    for i in ckpt.loop(range(n)):
        tick()
        first.append(rng.random() * i)
    middle = sum(first)
    tick()
    for i in ckpt.loop(range(n)):  # noqa: B007
        tick()
        second.append(rng.random() + middle)
    tick()
    return first, second, middle, rng.random()


@form
def two_loops_in_sequence() -> object:
    return two_loops(7)


@ckpt.job
def three_deep() -> Any:
    total, log = 0, []
    for i in ckpt.loop(range(3)):
        order = random.sample(range(3), 3)
        for j in ckpt.loop(order):
            start = random.random()
            for k in ckpt.loop(range(2)):
                tick()
                total += i * 100 + j * 10 + k
                log.append((i, j, k, start))
            start = 0.0
        tick()
    return total, log, i, j, k, start, random.random()


@form
def loops_three_deep() -> object:
    random.seed(12)
    return three_deep()


@ckpt.job
def consecutive_in_outer() -> Any:
    rng = random.Random(2)
    log: list[Any] = []
    for epoch in ckpt.loop(range(3)):
        order = rng.sample(range(4), 4)
        loss = 0.0
        for item in ckpt.loop(order):
            loss += item * rng.random()
            tick()
        score = 0.0
        for _ in ckpt.loop(range(2)):
            score += loss * rng.random()
            tick()
        log.append((epoch, order, loss, score))
    return log


@form
def training_and_validation_in_each_epoch() -> object:
    return consecutive_in_outer()


@ckpt.job
def outer_control() -> Any:
    log: list[Any] = []
    for i in ckpt.loop(range(8)):
        hits = 0
        for j in ckpt.loop(range(2)):
            tick()
            hits += i * j
        if i % 3 == 1:
            continue
        log.append((i, hits))
        tick()
        if i == 5:
            break
    tick()
    return log, i, j


@form
def outer_break_and_continue_after_an_inner_loop() -> object:
    return outer_control()


@ckpt.job
def inner_breaks() -> Any:
    log: list[Any] = []
    for i in ckpt.loop(range(4)):
        for j in ckpt.loop(range(10)):
            tick()
            log.append((i, j))
            if j >= i:
                break
        tick()
        log.append(("left", j))
    return log


@form
def inner_break_in_each_outer_iteration() -> object:
    return inner_breaks()


@ckpt.job
def empty_and_skipped() -> Any:
    log: list[Any] = []
    for i in ckpt.loop(range(5)):
        if i % 2:
            for j in ckpt.loop(range(i)):
                tick()
                log.append((i, j))
        for _ in ckpt.loop([]):
            log.append("never")
        tick()
    return log


@form
def loops_that_are_empty_or_not_entered() -> object:
    return empty_and_skipped()


@ckpt.job
def tuples_and_targets() -> Any:
    pairs = {"a": 1, "b": 2, "c": 3}
    out: list[Any] = [None] * 3
    for at, (name, value) in ckpt.loop(enumerate(pairs.items())):
        tick()
        out[at] = (name, value)
        tick()
    for out[0] in ckpt.loop(["x", "y", "z"]):
        tick()
    first, *rest = out
    return first, rest, at, name, value


@form
def enumerate_inside_and_odd_targets() -> object:
    return tuples_and_targets()


@ckpt.job
def one_line() -> Any:
    total = 0
    # fmt: off
    for i in ckpt.loop(range(3)): total += i; tick()
    for i in ckpt.loop(range(3)): total *= 2; tick()  # noqa: B007
    # fmt: on
    return total, i


@form
def loops_written_on_one_line() -> object:
    return one_line()


@ckpt.job
def generator_input(n: int) -> Any:
    squares = []
    for square in ckpt.loop(i * i for i in range(n)):
        tick()
        squares.append(square)
    for text in ckpt.loop(map(str, range(4))):
        tick()
        squares.append(text)
    for pair in ckpt.loop(zip("abc", range(3), strict=True), name="pairs"):
        tick()
        squares.append(pair)
    return squares


@form
def iterables_that_can_only_be_consumed_again() -> object:
    return generator_input(5)
