"""Forms: what waits on the interpreter's stack while a marked loop runs on the way out, and generators of the process."""

from __future__ import annotations

import random
from typing import Any, Self

import numpy
from programs.registry import form
from programs.ticks import tick

import ckpt


class Sums:
    def __init__(self) -> None:
        self.values: list[int] = []


def filled(log: list[Any], n: int) -> None:
    for i in ckpt.loop(range(n)):
        tick()
        log.append(i)


def returned_list() -> Any:
    log: list[Any] = []
    try:
        return log
    finally:
        for letter in ckpt.loop("abc"):
            tick()
            log.append(letter)


def returned_parts() -> Any:
    sums = Sums()
    try:
        return {"values": sums.values, "count": len(sums.values)}, sums
    finally:
        filled(sums.values, 3)


class Closing:
    """Its exit has a marked loop of its own."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for letter in ckpt.loop("xy"):
            tick()
            self.log.append(letter)


def returned_through_an_exit() -> Any:
    log: list[Any] = []
    for turn in range(2):
        with Closing(log):
            if turn:
                return log


def raised() -> None:
    log: list[Any] = []
    try:
        raise ValueError(log)
    finally:
        for letter in ckpt.loop("pq"):
            tick()
            log.append(letter)


@ckpt.job
def leaves() -> Any:
    (parts, sums), first, other = returned_parts(), returned_list(), returned_through_an_exit()
    caught = None
    try:
        raised()
    except ValueError as error:
        caught = error.args[0]
    for i in ckpt.loop(range(2)):
        tick()
        first.append(i)
    return first, other, caught, parts, parts["values"] is sums.values


@form
def results_and_exceptions_that_wait_for_a_loop() -> object:
    return leaves()


@ckpt.job
def returns_while_it_cleans_up() -> Any:
    log: list[Any] = []
    for n in ckpt.loop(range(3)):
        try:
            log.append(n)
            if n == 1:
                return log, "done"
        finally:
            for letter in ckpt.loop("mn"):
                tick()
                log.append(letter)


@form
def job_that_returns_through_a_finally_with_a_loop() -> object:
    return returns_while_it_cleans_up()


@ckpt.job
def draws_from_generators_of_the_process() -> Any:
    draw, shuffle, normal = random.random, random.shuffle, numpy.random.standard_normal
    of_numpy, bits = numpy.random.mtrand._rand, numpy.random.mtrand._rand._bit_generator
    out: list[Any] = []
    for _ in ckpt.loop(range(4)):
        tick()
        numbers = [1, 2, 3, 4]
        shuffle(numbers)
        out.append((draw(), random.random(), numbers, float(normal()), float(of_numpy.rand()), float(numpy.random.rand())))
    return out, of_numpy is numpy.random.mtrand._rand, int(bits.random_raw())


@form
def methods_of_generators_of_the_process_in_variables() -> object:
    random.seed(4)
    numpy.random.seed(4)
    return draws_from_generators_of_the_process()
