"""What holds of every map that was killed: judged by the traces that its items leave (see ``programs.jobs_map``)."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from crash.harness import ForkHost, Form, Outcome
from programs.jobs_map import WORKERS


def lines(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "effects.txt").read_text().splitlines()]


def check(folder: Path, outcome: Outcome, maps: int = 1) -> None:
    """``maps``: how many maps the program executes at a time."""
    executed: Counter[str] = Counter()
    keys: dict[str, set[str]] = defaultdict(set)
    acknowledged: dict[str, str] = {}
    for kind, name, token, *rest in lines(folder):
        if kind == "do":
            assert name not in acknowledged, f"{name} was handed out and executed again\n{outcome.story()}"
            executed[name] += 1
            keys[name].add(rest[0])
        else:
            assert acknowledged.setdefault(name, token) == token, f"{name} came back different\n{outcome.story()}"
    assert outcome.last.status == 0, outcome.story()
    again = sum(executed.values()) - len(executed)
    assert again <= 2 * WORKERS * maps * outcome.kills, f"{again} items were executed again\n{outcome.story()}"
    assert all(len(found) == 1 for found in keys.values()), "the idempotency key of an item changed"
    assert len({next(iter(found)) for found in keys.values()}) == len(keys), "two items share an idempotency key"
    assert isinstance(outcome.last.result, list)
    names = [name for name, _ in outcome.last.result]
    assert len(set(names)) == len(names), f"an item was handed out twice: {names}"
    assert {name: token for name, token in outcome.last.result} == acknowledged
    assert len(acknowledged) == len(executed)


def ticks_of(host: ForkHost, name: str, folder: Path) -> int:
    whole = Form(host, name, folder).run()
    assert whole.status == 0, whole.err
    return whole.ticks
