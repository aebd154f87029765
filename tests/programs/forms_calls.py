"""Forms: marked loops in helpers, methods and recursion, and what the interpreter's stack holds then."""

from __future__ import annotations

import random
from typing import Any

from programs.helpers import spread
from programs.registry import form
from programs.ticks import tick

import ckpt


def search(rows: list[int], limit: int) -> int | None:
    for at in ckpt.loop(range(limit)):
        tick()
        rows.append(at)
        if at * at > 10:
            return at
    return None


@ckpt.job
def returns_in_helper() -> Any:
    rows: list[int] = []
    found = search(rows, 20)
    tick()
    again = search(rows, 3)
    for i in ckpt.loop(range(2)):
        tick()
        rows.append(-i)
    return rows, found, again


@form
def return_from_a_loop_in_a_helper() -> object:
    return returns_in_helper()


def weigh(base: int, log: list[int]) -> int:
    total = 0
    for k in ckpt.loop(range(3)):
        tick()
        total += base * k + random.randrange(10)
        log.append(total)
    return total


@ckpt.job
def calls_helper() -> Any:
    total, log = 0, []
    for base in ckpt.loop(range(3)):
        total += weigh(base, log)
        tick()
    pair = weigh(7, log) - weigh(8, log)
    tick()
    return total, log, pair


@form
def helper_called_in_loops_and_twice_in_an_expression() -> object:
    random.seed(3)
    return calls_helper()


@ckpt.job
def calls_other_module() -> Any:
    values: list[int] = []
    added = [spread(values, 3)]
    for rounds in ckpt.loop(range(1, 4)):
        added.append(spread(values, rounds))
        tick()
    return values, added


@form
def helper_in_another_module() -> object:
    return calls_other_module()


Tree = list[Any]


def walk(tree: Tree, depth: int, log: list[Any]) -> int:
    total = 0
    for node in ckpt.loop(tree):
        tick()
        total += walk(node, depth + 1, log) if isinstance(node, list) else node
        log.append((depth, total))
    return total


@ckpt.job
def recursive_helper(tree: Tree) -> Any:
    log: list[Any] = []
    total = walk(tree, 0, log)
    tick()
    return total, log


@form
def recursion_in_a_helper() -> object:
    return recursive_helper([1, [2, 3, [4, 5]], [], [6, [7]], 8])


@ckpt.job
def countdown(n: int) -> Any:
    log: list[Any] = []
    for i in ckpt.loop(range(2)):
        tick()
        log.append((n, i))
    below = countdown(n - 1) if n else []
    for i in ckpt.loop(range(2)):
        tick()
        log.append((n, "after", i))
    return [*log, *below]


@form
def job_that_calls_itself() -> object:
    return countdown(2)


@ckpt.job
def inner_job(n: int) -> Any:
    total = 0.0
    for i in ckpt.loop(range(n)):
        tick()
        total += i / 9
    return total


@ckpt.job
def outer_job() -> Any:
    sums = []
    for n in ckpt.loop(range(2, 5)):
        sums.append(inner_job(n))
        tick()
    return sums


@form
def job_that_calls_another_job() -> object:
    return outer_job()


@ckpt.job
def while_around() -> Any:
    rng = random.Random(8)
    rounds, log, level = 0, [], 0.0
    while level < 3:
        rounds += 1
        step = rng.random()
        for i in ckpt.loop(range(2)):
            tick()
            level += step * i
            log.append((rounds, i, level))
        tick()
    return rounds, log, level


@form
def while_loop_around_a_marked_loop() -> object:
    return while_around()


@ckpt.job
def while_with_break() -> Any:
    queue, done = [3, 1, 4, 2], []
    while True:
        size = queue.pop(0)
        for i in ckpt.loop(range(size)):
            tick()
            if i == 2:
                queue.append(1)
                break
            done.append((size, i))
        if not queue:
            break
        tick()
    return done


@form
def while_true_with_breaks_at_both_levels() -> object:
    return while_with_break()


@ckpt.job
def while_around_helper() -> Any:
    total, n, log = 0, 0, []
    while n < 4:
        n += 1
        total += weigh(n, log)
    parts: list[Any] = []
    while len(parts) < 3:
        parts += [len(log), weigh(len(parts), log), len(log)]
    tick()
    return total, log, parts


@form
def while_around_a_helper_in_the_middle_of_an_expression() -> object:
    random.seed(31)
    return while_around_helper()


@ckpt.job
def for_around() -> Any:
    log: list[Any] = []
    for name in ("a", "b", "c"):
        factor = random.random()
        for i in ckpt.loop(range(3)):
            tick()
            log.append((name, i * factor))
        tick()
    return log, name


@form
def unmarked_for_around_a_marked_loop() -> object:
    random.seed(6)
    return for_around()


@ckpt.job
def for_and_while_mixed() -> Any:
    log: list[Any] = []
    for outer in ckpt.loop(range(2)):
        for letter in "pq":
            count = 0
            while count < 2:
                count += 1
                for i in ckpt.loop(range(2)):
                    tick()
                    log.append((outer, letter, count, i))
        tick()
    return log


@form
def marked_unmarked_and_while_nested() -> object:
    return for_and_while_mixed()
