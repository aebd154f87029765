"""ckpt: checkpoint and resume for long-running Python functions.

    @ckpt.job
    def simulate(steps):
        total = 0.0
        for t in ckpt.loop(range(steps)):
            total += work(t)
        return total

    simulate(100_000)      # kill it; run it again: it goes on where it was

Public: ``job``, ``loop``, ``step``, ``map``, ``Failed``, ``operation_key``, ``open``, ``current_run``, ``Store``, ``triggers``, ``errors``,
``Preempted``. Everything else is internal.
"""

from typing import TYPE_CHECKING, Any

from ckpt import errors, triggers
from ckpt._version import __version__
from ckpt.errors import CkptError, Preempted
from ckpt.jobs.job import job
from ckpt.jobs.mapping import map
from ckpt.jobs.marks import current_run, loop, operation_key, step
from ckpt.jobs.opening import open_run as open
from ckpt.mapping.failed import Failed

if TYPE_CHECKING:
    from ckpt.store import Store

__all__ = [
    "CkptError",
    "Failed",
    "Preempted",
    "Store",
    "__version__",
    "current_run",
    "errors",
    "job",
    "loop",
    "map",
    "open",
    "operation_key",
    "step",
    "triggers",
]


def __getattr__(name: str) -> Any:
    if name == "Store":  # loads the log and storage layers, which a plain import does not need
        from ckpt.store import Store

        return Store
    raise AttributeError(f"module 'ckpt' has no attribute {name!r}")
