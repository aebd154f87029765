"""When it is worth it: the decisions between safe points and checkpoints.

A checkpoint is taken where the trigger says that one is due, and where a resume from it would not have to run too much
again; a state is kept (staged, and named by later checkpoints) where the work behind it is worth far more than the copy.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from ckpt.session.node import Node, rerun_s
from ckpt.triggers import AT_RISK, Auto, Budget, Every, excess_of, leaves

RERUN_SHARE = 0.5
"""A checkpoint is taken in an inner loop if a resume from it costs at most this share of the work since the last one."""

KEEP_SHARE = 0.01
"""A state is kept between checkpoints if copying it costs at most this share of the work that it saves."""


def interval_of(trigger: Any) -> float | None:
    """Seconds from one checkpoint to the next as ``trigger`` has it now; None if that is not known, or no matter of time."""
    timed = [one for one in leaves(trigger) if isinstance(one, Auto | Budget | Every) and one.due_in(0, 0.0) > -math.inf]
    return min((one.seconds if isinstance(one, Every) else one.interval_s for one in timed), default=None)


class Pacing:
    """What is due, asked for, and known of costs. Used by the job's thread; ``ask`` may be called from any."""

    def __init__(self, trigger: Any, *, first: bool, now_s: float) -> None:
        self.trigger = trigger
        self.iterations = 0
        self.began_s = self.last_s = now_s
        self.due = False
        self._first = first
        self._asked = False
        self._keep_cost_s = 0.0

    def ask(self) -> None:
        """A checkpoint is wanted at the next safe point, whatever it costs."""
        self._asked = True

    @property
    def is_first(self) -> bool:
        """Whether no checkpoint was taken yet at a loop of this run."""
        return self._first

    def insists(self) -> bool:
        """Whether a checkpoint has to be taken at this very place, whatever it costs: the first, or one asked for."""
        return self._first or self._asked

    def count(self, node: Node) -> None:
        """Count the iterations of ``node`` since it was counted last."""
        self.iterations += node.index - node.counted
        node.counted = node.index

    def counted_out(self) -> bool:
        """Whether a checkpoint is due here because enough iterations have passed."""
        return bool(self.trigger.iterations_left(self.iterations) <= 0)

    def stop_at(self, index: int) -> int:
        """The index at which a loop that is at ``index`` has to look again. One that is due already has a reminder."""
        left = self.trigger.iterations_left(self.iterations)
        return index + math.ceil(left) if 0 < left < math.inf else sys.maxsize

    def allows(self, active: list[Node], node: Node, now_s: float) -> float:
        """0 if a checkpoint at ``node`` is a good one; else the seconds after which it is worth another look."""
        again_s = rerun_s(active, node)
        return 0.0 if again_s <= RERUN_SHARE * (now_s - self.last_s) else again_s

    def taken(self) -> str:
        """A checkpoint is being taken; the reason, for the log."""
        usual = AT_RISK if excess_of(self.trigger) else "trigger"
        reason = "first" if self._first else "requested" if self._asked else usual
        self._first = self._asked = self.due = False
        return reason

    def kept(self, cost_s: float) -> None:
        """A state was read and staged, which took this long."""
        self._keep_cost_s = max(cost_s, 0.7 * self._keep_cost_s + 0.3 * cost_s)

    def worth_keeping(self, work_s: float) -> bool:
        """Whether a state that saves ``work_s`` seconds of work is worth its cost."""
        return work_s * KEEP_SHARE >= self._keep_cost_s
