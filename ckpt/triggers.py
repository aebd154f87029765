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
A process that resumes has nothing at risk yet: it does as if it had just paid for a cold one, at the price in the log.

The bound on the work at risk. Where checkpoints are dear the budget alone would leave hours at risk. So from one state to the
next it is at most ``AT_RISK_S``, whatever share that takes, unless checkpoints would then take more than ``DEAR_SHARE`` of the
time. "Unless" goes by the median of the last costs and does not hold before the second checkpoint, so one cost that was
measured wrong (a machine that was suspended, a storage that hung) does not move the bound. docs/decisions/0048 has the reasons.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from ckpt.errors import OptionError
from ckpt.failures import Observed, daly_interval
from ckpt.settings import parse_duration

MIN_INTERVAL_S = 0.005
"""Shortest time between checkpoints of a budget: below it, waking the ticker costs more than what a kill loses."""

FORMS = '"1%" (of the time), "30s", "5m", "1000it" (iterations), "auto", or several joined with |'

AT_RISK_S = 1800.0
"""A budget leaves at most this much time between the states of two checkpoints."""

DEAR_SHARE = 0.1
"""Unless checkpoints would take more than this share of the time then."""

FREE_SHARE = 0.01
"""What checkpoints may take of the time without asking: ``"auto"`` takes no fewer of them for want of failures."""

LAST_COSTS = 3
"""Checkpoints from which the cost of the next one is estimated."""

COLD_FACTOR = 10
"""The second checkpoint is due after at most this many times the cost of the first, which was a cold one."""


AT_RISK = "at risk"
"""Why a checkpoint was taken before the budget would have had it."""

BESIDE_SHARE = 0.5
"""What work beside the job takes from it, as a part of the processor time, where the process may use several processors: nothing
if one is idle, all of it if none is, and which of them is so changes. The best interval goes by the root of the cost."""


class _Combinable:
    __slots__ = ()

    def __or__(self, other: Any) -> Either:
        return Either(self, other)


class Budget(_Combinable):
    """At most ``fraction`` of the job's time goes into checkpoints (stall and background work together), as long as that
    leaves at most ``at_most_s`` seconds of work at risk (see above for both).

    After a checkpoint that cost ``c`` seconds the next is due ``c / fraction`` later; after the first one, which is on
    top, sooner. The estimate is the largest of the last costs, so that one cheap checkpoint does not make the next
    ones too frequent, and a dear one is forgotten soon. OptionError for what is no share and no time.
    """

    __slots__ = ("_costs", "_from_s", "_last_s", "_taken_s", "at_most_s", "fraction")

    def __init__(self, fraction: float, *, at_most_s: float = AT_RISK_S) -> None:
        if not 0 < fraction <= 1:
            raise OptionError(f"{fraction:.0%} is not a share of the job's time", fix='give something like "1%"')
        if not at_most_s > 0:
            raise OptionError(f"at_most_s={at_most_s!r} is not a number of seconds", fix="give more than 0")
        self.fraction, self.at_most_s = fraction, at_most_s
        self._last_s = self._from_s = self._taken_s = -math.inf
        self._costs = _Costs()

    def iterations_left(self, iterations: int) -> float:
        return math.inf

    def due_in(self, iterations: int, now_s: float) -> float:
        if self._last_s == -math.inf:
            return -math.inf
        return self._last_s + self.interval_s - now_s

    def resumed(self, now_s: float, cost_s: float) -> None:
        """The process goes on from a checkpoint; the last one of the process before cost ``cost_s``."""
        self._costs.guess(cost_s)
        self._last_s = self._from_s = now_s

    @property
    def interval_s(self) -> float:
        """Seconds from the last commit to the next checkpoint, once there was one."""
        return max(MIN_INTERVAL_S, min(self._budget_s(), self._bound_s()))

    def taken(self, iterations: int, now_s: float) -> None:
        self._taken_s = now_s

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        """The budget counts from here, for only now the cost is known; the bound from where the state was read."""
        self._costs.add(cost_s)
        self._last_s = now_s
        self._from_s = self._taken_s if self._taken_s > -math.inf else now_s

    def excess(self) -> Excess | None:
        """What the bound on the work at risk costs now; None if the budget is kept."""
        wait_s, cost_s = max(MIN_INTERVAL_S, self._bound_s()), self._costs.usual_s
        if not self._costs or wait_s >= self._budget_s():
            return None
        share = cost_s / (self._last_s - self._from_s + wait_s)  # from state to state: a slow storage is waited for
        return Excess(share, cost_s, self.fraction, self.at_most_s) if share > self.fraction else None

    def _budget_s(self) -> float:
        """Seconds from the last commit after which checkpoints are within their share again."""
        if not self._costs:
            return (self._costs.cold_s or 0.0) * min(COLD_FACTOR, 1 / self.fraction)
        return self._costs.largest_s / self.fraction

    def _bound_s(self) -> float:
        """Seconds from the last commit after which too much is at risk."""
        dear_s = self._costs.usual_s / DEAR_SHARE if self._costs else 0.0
        return max(self._from_s + self.at_most_s - self._last_s, dear_s)


class _Costs:
    """What the last checkpoints cost, in seconds. The first one of a process is a cold one."""

    __slots__ = ("_guessed", "_warm", "cold_s")

    def __init__(self) -> None:
        self.cold_s: float | None = None
        self._guessed = False
        self._warm: deque[float] = deque(maxlen=LAST_COSTS)

    def __bool__(self) -> bool:
        """Whether more is known than what the cold one cost."""
        return bool(self._warm)

    def guess(self, cost_s: float) -> None:
        """What a process before paid stands for the cold one of this, until that is known."""
        self.cold_s, self._guessed = cost_s, True

    def add(self, cost_s: float) -> None:
        if self.cold_s is None or self._guessed:
            self.cold_s, self._guessed = cost_s, False
        else:
            self._warm.append(cost_s)

    @property
    def largest_s(self) -> float:
        """Of those that were not cold."""
        return max(self._warm)

    @property
    def usual_s(self) -> float:
        """The median; of two the smaller, for a cost is rather measured too high. 0 without any."""
        known = sorted([*([] if self.cold_s is None else [self.cold_s]), *self._warm][-LAST_COSTS:])
        return known[(len(known) - 1) // 2] if known else 0.0


@dataclass(frozen=True, slots=True)
class Excess:
    """Checkpoints of ``cost_s`` seconds take ``share`` of the time, more than ``fraction``, so that from one to the next it
    is at most ``at_most_s``."""

    share: float
    cost_s: float
    fraction: float
    at_most_s: float


def excess_of(trigger: Any) -> Excess | None:
    """By what a budget is exceeded now for the sake of the work at risk; None if it is not, or if other triggers may be
    due as well: then somebody wanted it so."""
    return trigger.excess() if isinstance(trigger, Budget) else None


class Auto(_Combinable):
    """The interval that loses least (Daly's) for what checkpoints take from the job here.

    With ``mtbf_s``: where the job fails once in so many seconds. Without: as often as was ``observed``, and as it lives on;
    never less often than a budget of ``FREE_SHARE``, for what failures there will be is a guess. What they take is the median of
    the last ones. Never more than the time between failures is at risk. The second checkpoint comes after at most
    ``COLD_FACTOR`` times what the first cost, and ``AT_RISK_S``: that was a cold one, and may be measured wrong.
    """

    __slots__ = ("_began_s", "_costs", "_last_s", "_lost_s", "_taken_s", "mtbf_s", "observed")

    def __init__(self, mtbf_s: float | None = None) -> None:
        self.mtbf_s, self.observed = mtbf_s, Observed()
        self._last_s, self._began_s = -math.inf, math.inf
        self._taken_s = self._lost_s = -math.inf
        self._costs = _Costs()

    def learn(self, mtbf_s: float | None, observed: Observed | None) -> None:
        """What the time between failures is, unless that was said before; and what was seen of them."""
        self.mtbf_s = mtbf_s if self.mtbf_s is None else self.mtbf_s
        self.observed = observed or self.observed

    def resumed(self, now_s: float, lost_s: float) -> None:
        """The process goes on from a checkpoint; the last one of the process before took ``lost_s`` from the job."""
        self._costs.guess(lost_s)
        self._last_s = self._began_s = now_s

    def iterations_left(self, iterations: int) -> float:
        return math.inf

    def due_in(self, iterations: int, now_s: float) -> float:
        if self._last_s == -math.inf:
            return -math.inf
        return self._last_s + max(MIN_INTERVAL_S, self.interval_s) - now_s

    def taken(self, iterations: int, now_s: float) -> None:
        self._began_s = min(self._began_s, now_s)
        self._taken_s = now_s

    def took(self, lost_s: float) -> None:
        """What the checkpoint that is committed next took from the job, in seconds, if that is less than what it cost."""
        self._lost_s = lost_s

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        """Timed from where the state was read: all work since then is at risk."""
        self._costs.add(cost_s if self._lost_s == -math.inf else self._lost_s)
        self._last_s = self._taken_s if self._taken_s > -math.inf else now_s

    @property
    def interval_s(self) -> float:
        """Seconds from the state of the last checkpoint to the next."""
        cost_s = self._costs.usual_s
        longest_s = math.inf if self._costs else min(AT_RISK_S, COLD_FACTOR * cost_s)
        if self.mtbf_s is not None:
            return min(daly_interval(cost_s, self.mtbf_s), longest_s)
        lived_s = max(0.0, self._last_s - self._began_s)
        interval_s = daly_interval(cost_s, self.observed.mtbf_s(lived_s))
        return min(interval_s, cost_s / FREE_SHARE, longest_s)


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

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = parse(first), parse(second)

    def learn(self, mtbf_s: float | None, observed: Observed | None) -> None:
        """As ``Auto.learn``, for each of the two that wants to know it."""
        for trigger in (self._first, self._second):
            if isinstance(trigger, Auto | Either):
                trigger.learn(mtbf_s, observed)

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


def leaves(trigger: Any) -> list[Any]:
    """The triggers that are joined in this one."""
    return [*leaves(trigger._first), *leaves(trigger._second)] if isinstance(trigger, Either) else [trigger]


def taken_from_job(stall_s: float, cost_s: float, processors: int) -> float:
    """Seconds that a checkpoint takes from the job: it stands still, and what is left of ``cost_s`` is work beside it."""
    return stall_s + max(0.0, cost_s - stall_s) * (BESIDE_SHARE if processors > 1 else 1.0)


def tell_taken(trigger: Any, lost_s: float) -> None:
    """Tell those who choose the interval by it what the checkpoint that is committed next took from the job."""
    for one in leaves(trigger):
        if isinstance(one, Auto):
            one.took(lost_s)


@dataclass(frozen=True, slots=True)
class Paid:
    """What a checkpoint cost, and what it took from the job, in seconds."""

    cost_s: float
    lost_s: float


def tell_resumed(trigger: Any, iterations: int, now_s: float, paid: Paid | None) -> None:
    """The process goes on from a checkpoint: the first one of its own need not be taken at once. (A trigger of a program's
    own is told nothing: what it is told of was taken, and is committed later.)

    ``paid``: what the log tells of the one that it goes on from. Without it those who go by costs have nothing to go by.
    """
    for one in leaves(trigger):
        if isinstance(one, Every | Iterations):
            one.taken(iterations, now_s)
        elif isinstance(one, Budget | Auto) and paid is not None:
            one.resumed(now_s, paid.cost_s if isinstance(one, Budget) else paid.lost_s)


def parse(every: Any, name: str = "every", *, mtbf_s: float | None = None, observed: Observed | None = None) -> Any:
    """A fresh trigger from a text, or a copy of a trigger object: one for each run.

    ``mtbf_s`` (what the time between failures is) and ``observed`` (what was seen of them) are for ``"auto"``.
    OptionError, which calls it ``name``, says what is understood.
    """
    trigger = _parse(every, name)
    if isinstance(trigger, Auto | Either):
        trigger.learn(mtbf_s, observed)
    return trigger


def _parse(every: Any, name: str, whole: Any = None) -> Any:
    if not isinstance(every, str):
        if all(hasattr(every, member) for member in ("iterations_left", "due_in", "taken", "committed")):
            return copy.deepcopy(every)
        raise OptionError(f"{name}={every!r} is not a trigger", fix=f"give {FORMS}, or a ckpt.triggers object")
    text = every.replace(" ", "")
    if "|" in text:
        first, _, second = text.partition("|")
        return Either(_parse(first, name, whole or every), _parse(second, name, whole or every))
    try:
        return _from_text(text)
    except (ValueError, OptionError) as error:
        reason = f": {error.what}" if isinstance(error, OptionError) else ""
        raise OptionError(f"{name}={whole or every!r} is not understood{reason}", fix=f"give {FORMS}") from None


def _from_text(text: str) -> Any:
    if text == "auto":
        return Auto()
    if text.endswith("%"):
        return Budget(float(text[:-1]) / 100)
    if text.endswith("it"):
        return Iterations(int(text[:-2]))
    return Every(parse_duration(text))
