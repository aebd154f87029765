"""``python -m ckpt.testing.simulate [--schedules N] [--seed S] [--races N] [--trace]``: play many schedules of the simulation.

Schedule i has the seed S + i. Stops at the first broken promise, prints what happened and the command that plays it again.
Needs greenlet: ``pip install "ckpt-jobs[simulation]"``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import secrets
import sys
import time
from collections.abc import Callable

from ckpt.testing.simulation import Outcome, race, run

_EVERY_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m ckpt.testing.simulate", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000, metavar="N", help="how many (default 1000)")
    parser.add_argument("--races", type=int, default=0, metavar="N", help="and races of attempts for one epoch (default 0)")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="the seed of the first (default: any)")
    parser.add_argument("--trace", action="store_true", help="print what happened in each")
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(2**40) if asked.seed is None else asked.seed
    _say(f"seed {seed}")
    with contextlib.redirect_stderr(io.StringIO()):  # what the attempts say of each other
        good = _play("schedules", run, seed, asked.schedules, trace=asked.trace)
        good = good and _play("races", _race, seed, asked.races, trace=asked.trace)
    return 0 if good else 1


def _race(seed: int) -> Outcome:
    return race(seed, 2 + seed % 4)


def _play(what: str, play: Callable[[int], Outcome], first: int, count: int, *, trace: bool) -> bool:
    began = told = time.perf_counter()
    for seed in range(first, first + count):
        outcome = play(seed)
        if trace or outcome.violation is not None:
            _say("\n".join(outcome.trace))
        if outcome.violation is not None:
            number = f"--schedules 1 --seed {seed}" if what == "schedules" else f"--schedules 0 --races 1 --seed {seed}"
            _say(f"\nBROKEN: {outcome.violation}\nplay it again: python -m ckpt.testing.simulate {number} --trace")
            return False
        if time.perf_counter() - told > _EVERY_S:
            told = time.perf_counter()
            _say(f"{seed - first + 1:,} of {count:,} {what}")
    if count:
        _say(f"{count:,} {what} in {time.perf_counter() - began:.0f} s, and every promise was kept")
    return True


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
