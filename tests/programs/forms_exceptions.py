"""Forms: exceptions, ``try``/``finally`` and ``with`` in and around marked loops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Self

from programs.registry import form
from programs.ticks import tick

import ckpt


@ckpt.job
def caught_inside(n: int) -> Any:
    good, bad = [], []
    for i in ckpt.loop(range(n)):
        tick()
        try:
            if i % 3 == 1:
                raise ValueError(f"item {i}")
            good.append(i)
        except ValueError as error:
            bad.append(str(error))
        tick()
    return good, bad


@form
def exception_caught_inside_the_loop() -> object:
    return caught_inside(8)


@ckpt.job
def caught_outside(n: int) -> Any:
    total, why = 0, ""
    try:
        for i in ckpt.loop(range(n)):
            tick()
            total += i
            if i == 5:
                raise ValueError(f"stopped at {i}")
    except ValueError as error:
        why = str(error)
        tick()
    for j in ckpt.loop(range(4)):
        tick()
        total += j * 100
    tick()
    return total, why, i


@form
def exception_caught_outside_the_loop() -> object:
    return caught_outside(50)


@ckpt.job
def caught_two_out() -> Any:
    log: list[Any] = []
    try:
        for i in ckpt.loop(range(5)):
            for j in ckpt.loop(range(3)):
                tick()
                log.append((i, j))
                if (i, j) == (2, 1):
                    raise KeyError("deep")
    except KeyError as error:
        log.append(error.args)
    tick()
    for k in ckpt.loop(range(3)):
        tick()
        log.append(k)
    return log


@form
def exception_through_two_loops() -> object:
    return caught_two_out()


def fragile(base: int, log: list[int]) -> int:
    for k in ckpt.loop(range(4)):
        tick()
        log.append(base * 10 + k)
        if base == k:
            raise RuntimeError(f"helper failed at {k}")
    return len(log)


@ckpt.job
def through_helper() -> Any:
    log: list[int] = []
    errors: list[str] = []
    for base in ckpt.loop(range(5)):
        try:
            fragile(base, log)
        except RuntimeError as error:
            errors.append(str(error))
        else:
            errors.append("fine")
        finally:
            log.append(-1)
        tick()
    return log, errors


@form
def exception_through_a_helper() -> object:
    return through_helper()


@ckpt.job
def fails_for_good(n: int) -> Any:
    total = 0
    for i in ckpt.loop(range(n)):
        tick()
        total += i
        if i == 6:
            raise LookupError(f"total was {total}")
    return total


@form
def exception_that_leaves_the_job() -> object:
    try:
        return fails_for_good(20)
    except LookupError as error:
        tick()
        return f"failed: {error}"


@ckpt.job
def finally_everywhere() -> Any:
    log: list[Any] = []
    try:
        for i in ckpt.loop(range(5)):
            try:
                tick()
                if i == 2:
                    continue
                if i == 4:
                    break
                log.append(i)
            finally:
                log.append(f"finally {i}")
                tick()
    finally:
        log.append("outer")
        tick()
    for j in ckpt.loop(range(2)):
        tick()
        log.append(j)
    return log


@form
def try_finally_in_and_around_loops() -> object:
    return finally_everywhere()


@ckpt.job
def loop_in_handlers() -> Any:
    log: list[Any] = []
    try:
        raise ValueError("first")
    except ValueError as error:
        for i in ckpt.loop(range(3)):
            tick()
            log.append((i, str(error)))
    else:
        log.append("never")
    finally:
        for i in ckpt.loop(range(3)):
            tick()
            log.append(("finally", i))
    tick()
    return log


@form
def marked_loops_in_except_and_finally() -> object:
    return loop_in_handlers()


class Meter:
    """A context manager with state of its own, which its ``__exit__`` changes too."""

    def __init__(self, name: str) -> None:
        self.name, self.sums, self.closed = name, [0.0], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1
        self.sums.append(-1.0)

    def add(self, value: float) -> None:
        self.sums[0] += value


@ckpt.job
def with_meter() -> Any:
    with Meter("outer") as meter:
        for i in ckpt.loop(range(6)):
            tick()
            meter.add(i / 7)
    tick()
    for _ in ckpt.loop(range(2)):
        tick()
        meter.add(0.5)
    return meter.sums, meter.closed


@form
def with_statement_around_a_loop() -> object:
    return with_meter()


@contextlib.contextmanager
def scope(log: list[Any], name: str) -> Iterator[None]:
    log.append(("enter", name))
    try:
        yield
    finally:
        log.append(("exit", name))


@ckpt.job
def with_generator_manager() -> Any:
    log: list[Any] = []
    with scope(log, "all"):
        for i in ckpt.loop(range(3)):
            with scope(log, f"one {i}"):
                tick()
                for j in ckpt.loop(range(2)):
                    tick()
                    log.append((i, j))
    tick()
    with contextlib.suppress(ValueError):
        for i in ckpt.loop(range(5)):
            tick()
            if i == 2:
                raise ValueError
            log.append(i)
    return log


@form
def contextmanager_and_suppress_around_loops() -> object:
    return with_generator_manager()


def breaking_off(until: int) -> Iterator[int]:
    for value in range(until):
        tick()
        yield value
    raise ConnectionError("the input broke off")


@ckpt.job(key="1")
def reads_inputs_that_break_off() -> object:
    out: list[object] = []
    for turn in ckpt.loop(range(3)):
        try:
            for value in ckpt.loop(breaking_off(turn + 1)):
                tick()
                out.append((turn, value))
        except ConnectionError as error:
            out.append(str(error))
        for late in ckpt.loop(range(2)):
            tick()
            out.append((turn, "late", late))
    try:
        for key in ckpt.loop(breaking_off(2), key=str):
            tick()
            out.append(key)
    except ConnectionError:
        tick()
    for last in ckpt.loop(range(2)):
        tick()
        out.append(last)
    return out


@form
def input_that_raises_in_an_inner_loop_and_by_key() -> object:
    return reads_inputs_that_break_off()
