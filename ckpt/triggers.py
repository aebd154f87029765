"""When a checkpoint is due.

``parse`` turns ``"1%"``, ``"30s"``, ``"1000it"`` and ``"auto"`` into triggers; triggers combine with ``|`` (whichever is due first).
A trigger only computes; the session asks it, and a background ticker waits for it.

The rule of the budget. A checkpoint that cost c seconds is followed by c / fraction seconds without one: so whenever one
is due, all before it have taken at most their share of the time. The first checkpoint of a process is the exception: it
is taken at once, so it is on top. It is cold, too (fresh memory, modules that are imported for it), and says little of
what later ones cost; to wait for a hundred times that would leave a job of a few seconds with nothing but its beginning. So the second comes after ten
times what the first cost, if that is sooner: the first two together then took at most a fifth of the time, and once the
second has had its c / fraction too, all but the first are within their share for good. The estimate begins with the
second. (The checkpoint at a job's entry, before any loop, belongs to the first: the session does not report it.)
"""

from __future__ import annotations

import copy
import math
from typing import Any

from ckpt.errors import OptionError
from ckpt.settings import parse_duration

MIN_INTERVAL_S = 0.005
"""Shortest time between checkpoints of a budget: below it, waking the ticker costs more than what a kill loses."""

FORMS = '"1%" (of the time), "30s", "5m", "1000it" (iterations), "auto", or several joined with |'

DEFAULT_MTBF_S = 86400.0
"""Mean time between failures where nobody says better."""

COLD_FACTOR = 10
"""The second checkpoint is due after at most this many times the cost of the first, which was a cold one."""


class _Combinable:
    __slots__ = ()

    def __or__(self, other: Any) -> Either:
        return Either(self, other)


class Budget(_Combinable):
    """At most ``fraction`` of the job's time goes into checkpoints (stall and background work together).

    After a checkpoint that cost ``c`` seconds the next is due ``c / fraction`` later; after the first one, which is on
    top, sooner (see above). The estimate is the larger of the last cost and the running mean, so that one cheap
    checkpoint does not make the next ones too frequent.
    """

    __slots__ = ("_last_s", "_mean_s", "_wait_s", "fraction")

    def __init__(self, fraction: float) -> None:
        if not 0 < fraction <= 1:
            raise OptionError(f"{fraction:.0%} is not a share of the job's time", fix='give something like "1%"')
        self.fraction = fraction
        self._last_s = -math.inf
        self._wait_s = 0.0
        self._mean_s: float | None = None

    def iterations_left(self, iterations: int) -> float:
        return math.inf

    def due_in(self, iterations: int, now_s: float) -> float:
        return self._last_s + max(MIN_INTERVAL_S, self._wait_s) - now_s

    def taken(self, iterations: int, now_s: float) -> None:
        """Timed from its commit: only then its cost is known."""

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        if self._last_s == -math.inf:
            self._wait_s = cost_s * min(COLD_FACTOR, 1 / self.fraction)
        else:
            self._mean_s = cost_s if self._mean_s is None else max(cost_s, 0.7 * self._mean_s + 0.3 * cost_s)
            self._wait_s = self._mean_s / self.fraction
        self._last_s = now_s


def young_interval(cost_s: float, mtbf_s: float) -> float:
    """Young's interval between checkpoints that cost ``cost_s`` each: sqrt(2 cost mtbf), in seconds.

    J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (1974).
    """
    return math.sqrt(2 * cost_s * mtbf_s)


def daly_interval(cost_s: float, mtbf_s: float) -> float:
    """Daly's interval (his equation 37), in seconds: ``mtbf_s`` where a checkpoint costs twice that or more.

    J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22 (2006).
    """
    if cost_s >= 2 * mtbf_s:
        return mtbf_s
    ratio = cost_s / (2 * mtbf_s)
    return young_interval(cost_s, mtbf_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - cost_s


class Auto(_Combinable):
    """The interval that loses least (Daly's) where the job fails every ``mtbf_s`` seconds, from what checkpoints cost here.

    The cost is the larger of the last one and the running mean, as for ``Budget``. Never more than ``mtbf_s`` is at risk.
    """

    __slots__ = ("_cost_s", "_last_s", "mtbf_s")

    def __init__(self, mtbf_s: float = DEFAULT_MTBF_S) -> None:
        self.mtbf_s = mtbf_s
        self._last_s = -math.inf
        self._cost_s: float | None = None

    def iterations_left(self, iterations: int) -> float:
        return math.inf

    def due_in(self, iterations: int, now_s: float) -> float:
        if self._cost_s is None:
            return self._last_s - now_s
        return self._last_s + max(MIN_INTERVAL_S, daly_interval(self._cost_s, self.mtbf_s)) - now_s

    def taken(self, iterations: int, now_s: float) -> None:
        """Timed from its commit: only then its cost is known."""

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        self._cost_s = cost_s if self._cost_s is None else max(cost_s, 0.7 * self._cost_s + 0.3 * cost_s)
        self._last_s = now_s


class Every(_Combinable):
    """A checkpoint every ``seconds``."""

    __slots__ = ("_last_s", "seconds")

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise OptionError(f"{seconds} is not a number of seconds", fix="give 0 or more")
        self.seconds = seconds
        self._last_s = -math.inf

    def iterations_left(self, iterations: int) -> float:
        return math.inf

    def due_in(self, iterations: int, now_s: float) -> float:
        return self._last_s + self.seconds - now_s

    def taken(self, iterations: int, now_s: float) -> None:
        self._last_s = now_s

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        """Timed from when it was taken, whatever it cost."""


class Iterations(_Combinable):
    """A checkpoint every ``count`` iterations of marked loops."""

    __slots__ = ("_last", "count")

    def __init__(self, count: int) -> None:
        if count < 1:
            raise OptionError(f"{count} is not a number of iterations", fix="give 1 or more")
        self.count = count
        self._last = -count

    def iterations_left(self, iterations: int) -> float:
        return self._last + self.count - iterations

    def due_in(self, iterations: int, now_s: float) -> float:
        return 0.0 if self.iterations_left(iterations) <= 0 else math.inf

    def taken(self, iterations: int, now_s: float) -> None:
        self._last = iterations

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        """Counted from where it was taken, whatever it cost."""


class Either(_Combinable):
    """Due as soon as one of two triggers is."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Any, second: Any, *, mtbf_s: float | None = None) -> None:
        self._first, self._second = parse(first, mtbf_s=mtbf_s), parse(second, mtbf_s=mtbf_s)

    def iterations_left(self, iterations: int) -> float:
        return float(min(self._first.iterations_left(iterations), self._second.iterations_left(iterations)))

    def due_in(self, iterations: int, now_s: float) -> float:
        return float(min(self._first.due_in(iterations, now_s), self._second.due_in(iterations, now_s)))

    def taken(self, iterations: int, now_s: float) -> None:
        self._first.taken(iterations, now_s)
        self._second.taken(iterations, now_s)

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        self._first.committed(iterations, now_s, cost_s)
        self._second.committed(iterations, now_s, cost_s)


def parse(every: Any, name: str = "every", *, mtbf_s: float | None = None) -> Any:
    """A fresh trigger from a text, or a copy of a trigger object: one for each run; ``mtbf_s`` is for ``"auto"``.
    OptionError, which calls it ``name``, says what is understood."""
    if not isinstance(every, str):
        if all(hasattr(every, member) for member in ("iterations_left", "due_in", "taken", "committed")):
            return copy.deepcopy(every)
        raise OptionError(f"{name}={every!r} is not a trigger", fix=f"give {FORMS}, or a ckpt.triggers object")
    text = every.replace(" ", "")
    if "|" in text:
        first, _, second = text.partition("|")
        return Either(parse(first, name, mtbf_s=mtbf_s), parse(second, name, mtbf_s=mtbf_s))
    try:
        if text == "auto":
            return Auto(mtbf_s or DEFAULT_MTBF_S)
        if text.endswith("%"):
            return Budget(float(text[:-1]) / 100)
        if text.endswith("it"):
            return Iterations(int(text[:-2]))
        return Every(parse_duration(text))
    except (ValueError, OptionError) as error:
        raise OptionError(f"{name}={every!r} is not understood", fix=f"give {FORMS}") from error
