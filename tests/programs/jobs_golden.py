"""The jobs of the golden stores (tests/data/golden). Never change them: their stores are as old as their format."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt
from ckpt import host

if os.environ.get("GOLDEN_MAKER"):  # the stores say nothing of the machine that made them
    host.host_name = lambda: "golden"
    host.command_line = lambda: ["python", "golden.py"]


@ckpt.job(name="golden inline")
def inline(n: int) -> Any:
    """Small state: numbers, texts, shared lists, the generator of ``random``."""
    history: list[Any] = []
    table = {"history": history, "text": "äöü"}
    for i in ckpt.loop(range(n)):
        history.append((i, random.random(), f"item {i}"))
        tick()
    return table, history is table["history"]


@form
def golden_inline() -> object:
    random.seed(5)
    return inline(5)


@ckpt.job(name="golden arrays")
def arrays(n: int) -> Any:
    """Large state in packs: arrays that share memory, and generators of numpy."""
    rng = np.random.default_rng(3)
    field = np.zeros(6000)
    tail = field[3000:]
    for _ in ckpt.loop(range(n)):
        field += rng.standard_normal(field.size)
        tail *= 0.5
        tick()
    return field, float(tail.sum()), bool(np.shares_memory(field, tail))


@form
def golden_arrays() -> object:
    return arrays(5)


@ckpt.step
def squared(i: int) -> dict[str, int]:
    return {"square": i * i}


@ckpt.job(name="golden/steps")
def steps(n: int) -> Any:
    """Recorded results, in front of the loop and in it."""
    found = [squared(100)]
    for i in ckpt.loop(range(n)):
        found.append(squared(i))
        tick()
    return found


@form
def golden_steps() -> object:
    return steps(5)


@ckpt.job(name="golden nested")
def nested(n: int) -> Any:
    """A path of two loops, one behind another inside the first."""
    total, seen = 0.0, []
    rng = random.Random(2)
    for outer in ckpt.loop(range(n)):
        for inner in ckpt.loop([outer, outer + 1]):
            total += rng.random() * inner
            tick()
        for word in ckpt.loop(["a", "b"], key=str):
            seen.append((outer, word, total))
            tick()
    return total, seen


@form
def golden_nested() -> object:
    return nested(3)


@form
def golden_block() -> object:
    """A block with a named state."""
    with ckpt.open("golden block") as run:
        state = run.state(inside=0, drawn=[])
        for n in run.loop(range(5)):
            state.inside += n
            state.drawn.append(random.Random(n).random())
            tick()
    return state.inside, list(state.drawn)


@form
def golden_finished() -> object:
    return steps(3)


@form
def golden_torn() -> object:
    return steps(4)


@form
def golden_encrypted() -> object:
    return arrays(4)


@form
def golden_unsigned() -> object:
    """Signed with the key that everybody knows."""
    random.seed(6)
    store = ckpt.Store(os.environ["CKPT_STORE"], key="0" * 64, unsigned=True)
    return inline.options(store=store)(4)
