"""Deterministic simulation: several attempts of one run, in one thread, over a storage that fails in every way it may.

``run(seed)`` plays one schedule. Each attempt is the real code (takeover, log, snapshots, retention, recovery) in a
greenlet of its own; whenever it asks the storage for something, another attempt may go on, or it is killed, or paused until
long after it was taken over. After every step ``model`` compares what was promised with what is there. The same seed
gives the same schedule, in every process. ``python -m ckpt.testing.simulate`` plays many.
"""

from ckpt.testing.simulation.model import Violation
from ckpt.testing.simulation.schedule import Outcome, Settings, race, run

__all__ = ["Outcome", "Settings", "Violation", "race", "run"]
