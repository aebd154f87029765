"""Forms: steps that are partials, methods and lambdas, in any order of threads; a step that draws and fails."""

from __future__ import annotations

import functools
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt

COUNT = 8


def square(number: int) -> int:
    note("do", str(number))
    tick()
    return number * number


class Shop:
    """Two shops have different prices for one article."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def price(self, article: int) -> int:
        tick()
        return article * self.factor


def shuffled() -> list[int]:
    """Another order in each attempt: as threads have it."""
    order = list(range(COUNT))
    random.Random(os.getpid()).shuffle(order)
    return order


def fan_out(make: Any) -> list[int]:
    """Each number's step, called in the threads of a pool in any order; the results in order."""
    with ThreadPoolExecutor(1) as pool:
        futures = {number: pool.submit(make(number)) for number in shuffled()}
        return [futures[number].result() for number in range(COUNT)]


@ckpt.job(key="partials")
def partials() -> Any:
    found = fan_out(lambda number: ckpt.step(functools.partial(square, number)))
    found += fan_out(lambda number: ckpt.step(lambda number=number: square(number)))
    for _ in ckpt.loop(range(2)):
        tick()
    return found


@form
def steps_of_partials_in_any_order() -> object:
    return partials()


@ckpt.job(key="methods")
def methods() -> Any:
    cheap, dear = Shop(1), Shop(10)
    found = []
    for _ in ckpt.loop(range(2)):
        for shop in (cheap, dear):
            found.append(ckpt.step(shop.price)(3))
            tick()
    return found


@form
def steps_of_methods_of_two_objects() -> object:
    return methods()


def draws_and_fails(seed: int) -> None:
    random.random()
    raise ValueError(seed)


@ckpt.job(key="failing")
def failing() -> Any:
    random.seed(3)
    found = []
    for i in ckpt.loop(range(3)):
        try:
            ckpt.step(draws_and_fails, record_errors=True)(i)
        except ValueError as error:
            found.append((str(error), random.random()))
        tick()
    return found


@form
def step_that_draws_and_fails() -> object:
    return failing()
