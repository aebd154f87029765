"""Forms: ``current_run().checkpoint()`` outside loops, steps among loops, and ``with ckpt.open``."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from programs.registry import form
from programs.ticks import tick

import ckpt


@ckpt.job
def straight_line() -> Any:
    log = [random.random()]
    tick()
    run = ckpt.current_run()
    if run is not None:
        run.checkpoint()
    tick()
    log.append(random.random() + len(log))
    tick()
    if run is not None:
        run.checkpoint()
    log.append(random.random() + len(log))
    tick()
    for i in ckpt.loop(range(3)):
        tick()
        log.append(i)
    if run is not None:
        run.checkpoint()
    tick()
    return log


@form
def checkpoints_in_straight_line_code() -> object:
    random.seed(77)
    return straight_line()


@ckpt.job
def under_while(limit: int) -> Any:
    n, log = 0, []
    while n < limit:
        n += 1
        log.append(n * random.random())
        tick()
        if (run := ckpt.current_run()) is not None:
            run.checkpoint()
        tick()
    return n, log


@form
def checkpoint_under_while() -> object:
    random.seed(78)
    return under_while(7)


def save() -> None:
    run = ckpt.current_run()
    if run is not None:
        run.checkpoint()


@ckpt.job
def from_helper() -> Any:
    log = []
    for i in ckpt.loop(range(4)):
        tick()
        log.append(i)
        if i % 2:
            save()
        tick()
        log.append(random.random())
    save()
    tick()
    return log


@form
def checkpoint_called_by_a_helper_in_a_loop_body() -> object:
    random.seed(79)
    return from_helper()


@ckpt.job
def many_loops_then_checkpoint() -> Any:
    total = 0
    for block in ckpt.loop(range(3)):
        for i in ckpt.loop(range(2)):
            total += i + block
            tick()
        save()
        tick()
        total *= 2
    return total


@form
def checkpoint_between_inner_loop_and_end_of_iteration() -> object:
    return many_loops_then_checkpoint()


@ckpt.step
def slow_square(value: int) -> float:
    tick()
    return value * value / 7


@ckpt.job
def with_steps() -> Any:
    start = slow_square(100)
    seen: list[float] = [start]
    for i in ckpt.loop(range(3)):
        head = slow_square(i)
        for j in ckpt.loop(range(2)):
            seen.append(slow_square(i * 10 + j) + head)
            seen.append(random.random())
            tick()
        seen.append(ckpt.step(slow_square, name="again")(i))
    tick()
    return seen, slow_square(100)


@form
def steps_before_in_between_and_after_loops() -> object:
    random.seed(80)
    return with_steps()


class Counter:
    """An object with ``state_dict``, made again by the code and restored in place."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"values": list(self.values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values = list(state["values"])


@form
def open_block_with_state_and_loop() -> object:
    random.seed(81)
    counter = Counter()
    with ckpt.open("block") as run:
        s = run.state(total=0.0, log=[], counter=counter)
        for i in run.loop(range(5)):
            tick()
            s.total += random.random() * i
            s.log.append(run.step(slow_square)(i))
            counter.values.append(s.total)
            tick()
        tick()
        return s.total, s.log, counter.values, s.counter is counter


@form
def open_block_that_deletes_a_name() -> object:
    with ckpt.open("deletes") as run:
        s = run.state(total=0, scratch=[1])
        for i in run.loop(range(4)):
            tick()
            s.total += i
            if i == 1:
                del s.scratch
            tick()
        return [s.total, sorted(vars(s))]


@form
def open_block_with_loops_in_a_thread_and_in_a_step() -> object:
    with ckpt.open("guards") as run:
        s = run.state(total=0)

        def inner(n: int) -> int:
            total = 0
            for i in run.loop(range(n)):
                total += i
            return total

        for i in run.loop(range(3)):
            tick()
            with ThreadPoolExecutor(1) as pool:
                s.total += pool.submit(inner, i).result()
            s.total += run.step(inner)(i)
            tick()
        tick()
        return s.total


@form
def open_block_with_a_while_that_counts_in_a_plain_variable() -> object:
    with ckpt.open("counts") as run:
        state = run.state(total=0)
        turn = 0
        while turn < 4:
            for value in run.loop(range(3)):
                tick()
                state.total += value + turn
            tick()
            turn += 1
        return state.total
