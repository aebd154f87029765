"""Jobs whose loop input comes from ``items.json`` in the working directory, so that it can change between attempts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt


def read_items() -> list[str]:
    found: list[str] = json.loads(Path("items.json").read_text())
    return found


@ckpt.job
def by_position() -> Any:
    done: list[str] = []
    for item in ckpt.loop(read_items()):
        tick()
        done.append(item)
    return done


@form
def input_by_position() -> object:
    return by_position()


@ckpt.job
def by_generator() -> Any:
    done: list[str] = []
    for item in ckpt.loop(item for item in read_items()):
        tick()
        done.append(item)
    return done


@form
def input_from_a_generator() -> object:
    return by_generator()


@ckpt.job
def by_key() -> Any:
    done: list[str] = []
    for item in ckpt.loop(read_items(), key=str):
        note("start", item)
        tick()
        done.append(item)
    return done


@form
def input_by_key() -> object:
    return by_key()


@ckpt.job
def by_key_in_a_variable() -> Any:
    rows = [[item] for item in read_items()]
    kept, done = list(rows), []
    for row in ckpt.loop(rows, key=lambda row: row[0]):
        tick()
        row.append("done")
        done.append([row[0], any(row is one for one in kept)])
    return done, kept


@form
def rows_by_key_in_a_variable() -> object:
    return by_key_in_a_variable()


@ckpt.job
def from_file() -> Any:
    lines, extra = [], []
    with open("beside.txt") as beside, open("input.txt") as file:
        for line in ckpt.loop(file):
            tick()
            lines.append(line.rstrip("\n"))
            extra.append(beside.readline().rstrip("\n"))
    return lines, extra


@form
def lines_of_a_file_and_one_beside() -> object:
    return from_file()


@ckpt.job
def from_binary() -> Any:
    total = bytearray()
    beside = open("beside.txt", "rb")  # noqa: SIM115
    beside.seek(3)
    for _ in ckpt.loop(range(5)):
        tick()
        total += beside.read(4)
    beside.close()
    return total


@form
def binary_file_beside_the_loop() -> object:
    return from_binary()


@form
def input_of_a_block_in_a_variable() -> object:
    items = read_items()
    with ckpt.open("variable") as run:
        state = run.state(done=[])
        for item in run.loop(items):
            tick()
            state.done.append(item)
    return state.done


@form
def input_of_a_block_around_an_inner_loop() -> object:
    items = read_items()
    with ckpt.open("around") as run:
        state = run.state(done=[])
        for item in run.loop(items):
            for part in run.loop([0, 1]):
                tick()
                state.done.append([item, part])
    return state.done


@form
def queue_of_a_block_that_grows() -> object:
    with ckpt.open("queue") as run:
        state = run.state(done=[], queue=read_items())
        for item in run.loop(state.queue):
            tick()
            state.done.append(item)
            if len(item) == 1:
                state.queue.append(item * 2)
    return state.done
