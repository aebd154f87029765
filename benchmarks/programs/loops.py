"""Times marked loops, generators and plain loops in turn, all inside one job. Usage: loops.py ROUNDS COUNT EVERY"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ckpt
from benchmarks.programs.common import say

INNER = 10


def through(xs: Iterable[Any]) -> Iterator[Any]:
    for x in xs:  # noqa: UP028 - this loop is what is measured
        yield x


def plain(count: int) -> None:
    for _ in range(count):
        pass


def generator(count: int) -> None:
    for _ in through(range(count)):
        pass


def marked(count: int) -> None:
    for _ in ckpt.loop(range(count)):
        pass


def nested_plain(count: int) -> None:
    for _ in range(count):
        for _ in range(INNER):
            pass


def nested_generator(count: int) -> None:
    for _ in through(range(count)):
        for _ in through(range(INNER)):
            pass


def nested_marked(count: int) -> None:
    for _ in ckpt.loop(range(count)):
        for _ in ckpt.loop(range(INNER)):
            pass


FLAT = (plain, generator, marked)
NESTED = (nested_plain, nested_generator, nested_marked)
times: dict[str, list[float]] = {function.__name__: [] for function in FLAT + NESTED}


def per_iteration(function: Callable[[int], None], count: int) -> None:
    began = time.perf_counter()
    function(count)
    times[function.__name__].append((time.perf_counter() - began) / count)


def one_round(count: int, *, backwards: bool) -> None:
    for function in FLAT[::-1] if backwards else FLAT:
        per_iteration(function, count)
    for function in NESTED[::-1] if backwards else NESTED:
        per_iteration(function, count // 50)


@ckpt.job(key="loops")
def job(rounds: int, count: int) -> None:
    for turn in range(rounds):
        one_round(count, backwards=turn % 2 == 1)


if __name__ == "__main__":
    job.options(every=sys.argv[3])(int(sys.argv[1]), int(sys.argv[2]))
    say(**times)
