"""Forms: what locals can be: closures, objects, aliases, arrays, unbound names; and what the caller sees."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick
from tqdm import tqdm

import ckpt


@ckpt.job
def closures(n: int) -> Any:
    total, log = 0, [0]

    def add(value: int) -> None:
        nonlocal total
        total += value
        log.append(total)

    def last() -> int:
        return log[-1]

    scale = 2
    grow = lambda value: value * scale
    for i in ckpt.loop(range(n)):
        tick()
        add(grow(i))
        scale += 1
        total += last() % 3
    tick()
    return total, log, scale, grow(1)


@form
def nested_functions_that_change_captured_variables() -> object:
    return closures(7)


@ckpt.job
def rebound(n: int) -> Any:
    log: list[int] = []
    function: Callable[[int], int] = abs
    kept: list[Callable[[int], int]] = []
    for i in ckpt.loop(range(n)):
        tick()
        log.append(function(-i))
        function = lambda value, at=i: value + at * 10
        kept.append(function)
    tick()
    return log, function(0), [each(1) for each in kept]


@form
def lambda_rebound_in_the_loop() -> object:
    return rebound(6)


def make_counter() -> Callable[[], int]:
    count = 0

    def counter() -> int:
        nonlocal count
        count += 1
        return count

    return counter


@ckpt.job
def factory(n: int) -> Any:
    counter = make_counter()
    log = []
    for i in ckpt.loop(range(n)):
        tick()
        log.append(counter() * i)
    return log, counter()


@form
def closure_state_made_by_a_factory() -> object:
    return factory(6)


@ckpt.job
def default_argument(n: int) -> Any:
    def remember(value: int, seen: list[int] = []) -> int:  # noqa: B006
        seen.append(value)
        return len(seen)

    log = []
    for i in ckpt.loop(range(n)):
        tick()
        log.append(remember(i))
    return log


@form
def mutable_default_of_a_nested_function() -> object:
    return default_argument(6)


@dataclass
class Model:
    weights: np.ndarray[Any, Any]
    history: list[list[float]] = field(default_factory=list)
    best: float = float("inf")

    @ckpt.job
    def fit(self, steps: int, seed: int) -> Any:
        rng = np.random.default_rng(seed)
        view = self.weights[2:5]
        for step in ckpt.loop(range(steps)):
            tick()
            self.weights += rng.standard_normal(self.weights.size)
            view[0] = step
            self.history.append([float(view.sum())])
            self.history[0].append(float(step))
            self.best = min(self.best, float(self.weights[0]))
            self.latest = step
        tick()
        return float(self.weights.sum())


@form
def method_with_self_mutated() -> object:
    model = Model(np.zeros(6))
    weights, history = model.weights, model.history
    result = model.fit(6, seed=4)
    same = weights is model.weights, history is model.history
    return result, weights, history, model.best, model.latest, same


class Tally:
    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def collect(self, names: list[str]) -> int:
        for name in ckpt.loop(names):
            tick()
            self.sums[name] = self.sums.get(name, 0.0) + len(self.sums) / 7
        return len(self.sums)


@ckpt.job
def uses_method() -> Any:
    tally = Tally()
    sizes = [tally.collect(["a", "b", "a"])]
    for names in ckpt.loop([["c", "a"], ["d"], ["b", "e"]]):
        sizes.append(tally.collect(names))
        tick()
    return tally.sums, sizes


@form
def marked_loop_in_a_method_of_a_helper_object() -> object:
    return uses_method()


@ckpt.job
def fills(rows: list[Any], table: dict[str, Any], grid: np.ndarray[Any, Any], n: int) -> Any:
    inner = rows[0]
    for i in ckpt.loop(range(n)):
        tick()
        rows.append(i)
        inner.append(-i)
        table[f"k{i}"] = inner
        table["nested"]["count"] += 1
        grid[i % 2] += i
        tick()
    rows[1] = "changed"
    return len(rows)


@form
def lists_dicts_and_arrays_of_the_caller() -> object:
    inner: list[Any] = []
    rows: list[Any] = [inner, 0]
    nested = {"count": 0}
    table: dict[str, Any] = {"nested": nested}
    grid = np.arange(6.0).reshape(2, 3)
    top = grid[0]
    count = fills(rows, table, grid, 6)
    same = rows[0] is inner, table["nested"] is nested, table["k3"] is inner
    return count, rows, inner, table, nested, grid, top, same


@form
def finished_run_shows_the_caller_the_same() -> object:
    rows: list[Any] = [[], 0]
    table: dict[str, Any] = {"nested": {"count": 0}}
    count = fills(rows, table, np.zeros((2, 3)), 3)
    tick()
    return count, rows, table


@ckpt.job
def with_bar(n: int) -> Any:
    total = 0
    for i in tqdm(ckpt.loop(range(n)), disable=None):
        tick()
        total += i * i
    for i in ckpt.loop(tqdm(range(n))):
        tick()
        total -= i
    bar = tqdm(ckpt.loop(range(3)), total=3)
    for i in bar:  # noqa: B007
        tick()
        bar.set_postfix(total=total)
        total += 1000
    return total


@form
def loop_wrapped_in_tqdm() -> object:
    return with_bar(5)


@ckpt.job
def unbound(n: int) -> Any:
    scratch, log = [1], []
    for i in ckpt.loop(range(n)):
        tick()
        if i == 2:
            del scratch
        if i == 4:
            late = i * 10
        try:
            log.append(len(scratch))
        except UnboundLocalError:
            log.append("deleted")
        try:
            log.append(late)
        except UnboundLocalError:
            log.append("not yet")
        if i == 5:
            del late
    tick()
    return log


@form
def variables_deleted_and_not_yet_bound() -> object:
    return unbound(8)


@ckpt.job
def shared_memory(n: int) -> Any:
    base = np.zeros(12)
    view, grid, back = base[3:7], base.reshape(3, 4), base[::-2]
    for i in ckpt.loop(range(n)):
        tick()
        view += i
        grid[0] *= 1.5
        back[i % back.size] -= 0.25
        base[0] += view.sum()
    tick()
    view[:] = 7.0
    return base, view, grid, back, np.shares_memory(base, view), np.shares_memory(base, grid)


@form
def arrays_that_share_memory() -> object:
    return shared_memory(6)


@ckpt.job
def shared_references(n: int) -> Any:
    items: list[Any] = []
    table: dict[str, Any] = {"items": items}
    ring: list[Any] = [items]
    ring.append(ring)
    alias = items
    for i in ckpt.loop(range(n)):
        tick()
        items.append([i])
        table[str(i)] = items[-1]
        table["0"].append(i)
        alias[0][0] = i
    tick()
    same = alias is items, table["items"] is items, ring[1] is ring, ring[0] is items, table["3"] is items[3]
    return items, table, same


@form
def references_shared_between_containers() -> object:
    return shared_references(6)


@ckpt.job
def generators_of_randomness(n: int) -> Any:
    own, fresh = random.Random(1), np.random.default_rng(2)
    old = np.random.RandomState(3)
    log = []
    for _ in ckpt.loop(range(n)):
        tick()
        log.append((random.random(), own.gauss(0, 1), np.random.rand(), fresh.normal(), old.rand()))
    return log, random.random(), float(np.random.rand())


@form
def own_and_global_random_generators() -> object:
    random.seed(9)
    np.random.seed(9)
    return generators_of_randomness(8)


@ckpt.job
def kinds_of_values(n: int) -> Any:
    push = (kept := []).append
    ints = iter([5, 6, 7, 8, 9, 10, 11, 12])
    table: dict[Any, Any] = {}
    names: set[str] = set()
    for i in ckpt.loop(range(n)):
        tick()
        push(next(ints))
        table[(i, None)] = frozenset({i})
        names.add(str(i))
        blob = bytearray(kept)
        blob.extend(b"!")
        big, small, odd = 10**30 + i, -0.0, complex(i, -1)
    return kept, list(table.items())[-1][0], names, bytes(blob), big, small, odd.imag


@form
def values_of_many_kinds() -> object:
    return kinds_of_values(7)
