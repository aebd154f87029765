"""Forms: what a marked loop runs over is part of the state too: items that the body changes, lists that grow, keys."""

from __future__ import annotations

from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt


class Particle:
    def __init__(self, at: float) -> None:
        self.at, self.trail = at, [at]

    def move(self, by: float) -> None:
        self.at += by
        self.trail.append(self.at)


def trails(particles: list[Particle]) -> list[list[float]]:
    return [particle.trail for particle in particles]


@ckpt.job
def moves_once(n: int) -> Any:
    particles = [Particle(i / 3) for i in range(n)]
    for particle in ckpt.loop(particles):
        tick()
        particle.move(0.5)
    tick()
    return trails(particles)


@form
def items_changed_by_the_body() -> object:
    return moves_once(6)


@ckpt.job
def moves_often(n: int) -> Any:
    particles = [Particle(i / 3) for i in range(n)]
    first, energy = particles[0], 0.0
    for step in ckpt.loop(range(3)):
        for particle in ckpt.loop(particles):
            particle.move(0.1 * step)
            energy += particle.at - first.at
            tick()
        tick()
    return trails(particles), energy, first is particles[0], particle is particles[-1]


@form
def items_changed_in_an_inner_loop() -> object:
    return moves_often(3)


@ckpt.job
def moves_in_table(names: str) -> Any:
    table = {name: Particle(i) for i, name in enumerate(names)}
    for name, particle in ckpt.loop(table.items()):
        tick()
        particle.move(len(name))
        table["a"].move(0.25)
    for particle in ckpt.loop(table.values()):
        tick()
        particle.move(-1)
    return trails(list(table.values())), list(table)


@form
def values_of_a_dict_changed_by_the_body() -> object:
    return moves_in_table("abcde")


@ckpt.job
def moves_in_pairs(n: int) -> Any:
    left, right = [Particle(i) for i in range(n)], [Particle(-i) for i in range(n)]
    for at, (a, b) in ckpt.loop(enumerate(zip(left, right, strict=True))):
        tick()
        a.move(b.at + at)
        b.move(a.at)
    return trails(left), trails(right)


@form
def items_of_zipped_lists_changed_by_the_body() -> object:
    return moves_in_pairs(5)


@ckpt.job
def worklist() -> Any:
    queue, seen = [1], []
    for number in ckpt.loop(queue):
        tick()
        seen.append(number)
        if number < 20:
            queue.append(number * 2)
            if number % 3 == 1:
                queue.append(number + 7)
    tick()
    return seen, queue


@form
def list_that_grows_while_it_is_looped_over() -> object:
    return worklist()


@ckpt.job
def rows_of_grid() -> Any:
    grid = np.arange(12.0).reshape(4, 3)
    for row in ckpt.loop(grid):
        tick()
        row *= 2
        grid[0] += row
    for row in ckpt.loop(list(grid)):
        tick()
        row -= 1
    return grid


@form
def rows_of_an_array_changed_by_the_body() -> object:
    return rows_of_grid()


class Plan:
    def __init__(self) -> None:
        self.todo = [[i] for i in range(5)]
        self.done: list[list[int]] = []

    def run(self) -> int:
        for job in ckpt.loop(self.todo):
            tick()
            job.append(len(self.done))
            self.done.append(job)
        return len(self.done)


@ckpt.job
def plan_job() -> Any:
    plan = Plan()
    count = plan.run()
    tick()
    same = all(a is b for a, b in zip(plan.todo, plan.done, strict=True))
    return count, plan.todo, plan.done, same


@form
def items_of_an_attribute_changed_by_the_body() -> object:
    return plan_job()


@ckpt.job
def caller_items(rows: list[list[int]]) -> int:
    for row in ckpt.loop(rows):
        tick()
        row.append(len(rows))
        if len(rows) < 7:
            rows.append([])
    return len(rows)


@form
def items_of_the_callers_list_changed_and_added() -> object:
    rows = [[1], [2], [3]]
    first = rows[0]
    count = caller_items(rows)
    return count, rows, first, first is rows[0]


@ckpt.job
def keyed(words: list[str]) -> Any:
    counts: dict[str, int] = {}
    for word in ckpt.loop(words, key=str.lower):
        tick()
        counts[word] = len(counts)
        tick()
    return counts


@form
def loop_by_key() -> object:
    return keyed(["delta", "Alpha", "CHARLIE", "bravo", "echo"])


@ckpt.job
def shadowed(items: list[int]) -> Any:
    log = []
    for items in ckpt.loop([items, items[1:], [9]]):  # noqa: B020, PLR1704
        tick()
        log.append(list(items))
        items.append(0)
    items = "gone"
    tick()
    return log, items


@form
def loop_variable_that_shadows_the_argument() -> object:
    given = [1, 2]
    return shadowed(given), given


@ckpt.job
def nested_function_loop(n: int) -> Any:
    total, log = 0, []

    def inner(times: int) -> int:
        nonlocal total
        for k in ckpt.loop(range(times)):
            tick()
            total += k
            log.append((times, k, total))
        return total

    results = [inner(2)]
    for i in ckpt.loop(range(n)):
        results.append(inner(i))
        total += 100
        tick()
    return total, log, results


@form
def marked_loop_in_a_nested_function_with_nonlocal() -> object:
    return nested_function_loop(4)


@ckpt.job
def star_arguments(*rows: int, scale: int = 1, **names: list[int]) -> Any:
    for row in ckpt.loop(rows):
        tick()
        names["log"].append(row * scale)
        scale += 1
    tick()
    return scale, sorted(names)


@form
def star_and_keyword_arguments() -> object:
    log: list[int] = []
    return star_arguments(4, 5, 6, 7, scale=3, log=log), log


@ckpt.job
def takes_away(queue: list[int], rest: list[int]) -> Any:
    seen: list[int] = []
    for item in ckpt.loop(queue):
        tick()
        seen.append(item)
        queue.pop(0)
    for item in ckpt.loop(rest):
        tick()
        seen.append(item)
        if item == 2:
            rest.remove(1)
    return seen


@form
def items_taken_away_by_the_body() -> object:
    queue, rest = [*range(10, 18)], [*range(6)]
    return takes_away(queue, rest), queue, rest
