"""How often a job fails, and which interval between checkpoints loses least then. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_MTBF_S = 86400.0
"""Mean time between failures where nobody says better, and none was seen."""

PRIOR_FAILURES = 1 / 4
"""What that counts for beside failures that were seen. One failure tells the logarithm of the time between them with a variance
of 1, so this is a guess that may be wrong by a factor of exp(sqrt(4)), seven, either way."""

SHORTEST_LIFE_S = 1.0
"""A process that failed lived at least this long."""


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


def useful_share(interval_s: float, cost_s: float, lost_s: float, mtbf_s: float) -> float:
    """The share of time that is work which is not lost, to first order: each interval costs ``cost_s``, each failure
    half an interval and ``lost_s``. At least 0."""
    if interval_s <= 0:
        return 0.0
    return max(0.0, 1 - cost_s / (interval_s + cost_s) - ((interval_s + cost_s) / 2 + lost_s) / mtbf_s)


@dataclass(frozen=True, slots=True)
class Observed:
    """``failures`` in ``lived_s`` seconds of running: what is known of how often a job fails."""

    failures: int = 0
    lived_s: float = 0.0

    def mtbf_s(self, more_s: float = 0.0) -> float:
        """The mean time between failures, after ``more_s`` further seconds without one.

        Seconds lived / failures is the maximum-likelihood estimate for failures at a constant rate. Few failures say little, so
        this is its geometric mean with ``DEFAULT_MTBF_S`` (or the time lived, if that is longer), which counts as much as
        ``PRIOR_FAILURES`` failures do. Geometric, for what is not known is the order of magnitude: a prior in the ordinary
        mean would outweigh hundreds of failures where these come every few seconds.
        """
        lived_s = self.lived_s + max(0.0, more_s)
        prior_s = max(DEFAULT_MTBF_S, lived_s)
        if not self.failures:
            return prior_s
        # Whatever dies needs a moment for that; so the estimate is above 0 where no sign of life was ever recorded.
        each_s = max(lived_s / self.failures, SHORTEST_LIFE_S)
        weights = PRIOR_FAILURES, self.failures
        log_s = (weights[0] * math.log(prior_s) + weights[1] * math.log(each_s)) / sum(weights)
        return math.exp(log_s)
