"""Jobs whose steps leave a trace outside: each appends a line to ``effects.txt`` before it is recorded.

A line is ``do <step> <token> <operation key>`` inside the step and ``ack <step> <token>`` in the job once the step has
returned. The token is drawn anew at each execution, so a result that comes back is told from one made again.
"""

from __future__ import annotations

import os
import random
from typing import Any

from programs.registry import form
from programs.ticks import tick

import ckpt


def note(*words: object) -> None:
    """Append one line to effects.txt in one write: it is there even if the process dies in the next instant."""
    file = os.open("effects.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, (" ".join(map(str, words)) + "\n").encode())
    os.close(file)


@ckpt.step
def effect(name: str) -> str:
    token = os.urandom(6).hex()
    note("do", name, token, ckpt.operation_key())
    tick()
    return token


def acknowledged(name: str) -> tuple[str, str]:
    """Run the step, note that it returned; dies between the two at most."""
    token = effect(name)
    note("ack", name, token)
    tick()
    return name, token


@ckpt.job
def orders(days: int) -> Any:
    done = [acknowledged("open")]
    for i in ckpt.loop(range(2)):
        done.append(acknowledged(f"warm-{i}"))
    done.append(acknowledged("between"))
    for day in ckpt.loop(range(days)):
        done.append(acknowledged(f"day-{day}"))
        for item in ckpt.loop("xy"):
            done.append(acknowledged(f"item-{day}-{item}"))
    done.append(acknowledged("close"))
    return done


@form
def steps_with_effects() -> object:
    done = orders(2)
    tick()
    return [list(pair) for pair in done]


class Overloaded(Exception):
    """What the flaky service raises."""


@ckpt.step(retries=3, backoff=0, retry_on=(Overloaded,))
def flaky(name: str) -> str:
    note("try", name)
    tries = sum(line.split() == ["try", name] for line in open("effects.txt"))  # noqa: SIM115
    if tries < 3:
        raise Overloaded(f"{name}: attempt {tries}")
    tick()
    return f"{name} after {tries}"


@ckpt.job
def persistent() -> Any:
    return [flaky(f"call-{i}") for i in ("a", "b")]


@form
def steps_that_are_retried() -> object:
    return persistent()


@ckpt.step(key=lambda row: row["id"])
def by_key(row: dict[str, Any]) -> str:
    note("do", f"row-{row['id']}", "-", ckpt.operation_key())
    tick()
    return f"{row['id']}!"


@ckpt.job
def keyed(n: int) -> Any:
    out = []
    for i in ckpt.loop(range(n)):
        out.append(by_key({"id": i, "client": object()}))
        tick()
    return out


@form
def steps_with_a_key() -> object:
    return keyed(4)


@ckpt.step
def cube(i: int) -> bytes:
    return random.Random(i).randbytes(20_000)


@ckpt.job
def many(n: int) -> int:
    total = 0
    for i in ckpt.loop(range(n)):
        total += cube(i)[-1]
    tick()
    return total


@form
def many_steps() -> object:
    return many(int(os.environ["STEPS"]))


def same(value: Any) -> Any:
    return value


@ckpt.job(key="aliased")
def aliased() -> Any:
    settings = {"n": 5}
    again = ckpt.step(same)(settings)
    again["n"] += 1
    tick()
    for _ in ckpt.loop(range(2)):
        tick()
    return settings, again


@form
def step_that_returns_its_argument() -> object:
    return aliased()
