"""Forms: loops by key over objects that other variables lead to, too."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt


def place(row: list[int]) -> int:
    return row[0]


@ckpt.job
def own_rows() -> Any:
    shared = [[1], [2], [3], [4]]
    by_place = {row[0]: row for row in shared}
    for row in ckpt.loop(shared, key=place):
        tick()
        row.append(len(shared))
        by_place[5 - row[0]].append(7)
        shared[0].append(0)
    return shared, by_place


@form
def keyed_loop_over_a_list_in_a_variable() -> object:
    return own_rows()


@ckpt.job
def copies_and_views() -> Any:
    table: dict[str, list[int]] = {"a": [3], "b": [1], "c": [2]}
    matrix = np.arange(12.0).reshape(4, 3)
    for row in ckpt.loop(sorted(table.values()), key=place):
        tick()
        row.append(sum(map(len, table.values())))
    for row in ckpt.loop(table.values(), key=place):
        tick()
        table["b"].append(len(row))
    for line in ckpt.loop(matrix, key=lambda line: float(line[0])):
        tick()
        line[1:] += matrix.sum() * random.random()
    return table, matrix


@form
def keyed_loops_over_copies_views_and_arrays() -> object:
    random.seed(1)
    return copies_and_views()


@ckpt.job
def nested(visible: list[list[int]]) -> Any:
    shared = [[n] for n in range(3)]
    for row in ckpt.loop(shared, key=place):
        for other in ckpt.loop(visible, key=place):
            tick()
            other.append(row[0])
            shared[2].append(len(other))
            row.append(other[-1])
        for i in ckpt.loop(range(2)):
            tick()
            row.append(i)
    for row in ckpt.loop([*visible, *[[9]]], key=place):
        tick()
        row.append(len(visible[0]))
    return shared


@form
def keyed_loops_one_inside_the_other() -> object:
    visible = [[5], [6]]
    return nested(visible), visible
