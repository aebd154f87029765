"""ckpt: checkpoint and resume for long-running Python functions.

    @ckpt.job
    def simulate(steps):
        total = 0.0
        for t in ckpt.loop(range(steps)):
            total += work(t)
        return total

    simulate(100_000)      # kill it; run it again: it goes on where it was

Public: ``job``, ``loop``, ``step``, ``map``, ``Failed``, ``operation_key``, ``output``, ``open``, ``current_run``, ``Logged``,
``operation``, ``Store``, ``triggers``, ``errors``, ``Preempted``. Everything else is internal.
"""

from typing import TYPE_CHECKING, Any

from ckpt import errors, triggers
from ckpt._version import __version__
from ckpt.errors import CkptError, Preempted
from ckpt.jobs.job import job
from ckpt.jobs.mapping import map
from ckpt.jobs.marks import current_run, loop, operation_key, step
from ckpt.jobs.opening import open_run as open
from ckpt.jobs.output import output
from ckpt.mapping.failed import Failed

if TYPE_CHECKING:
    from ckpt.session.logged import Logged, operation
    from ckpt.store import Store

__all__ = [
    "CkptError",
    "Failed",
    "Logged",
    "Preempted",
    "Store",
    "__version__",
    "current_run",
    "errors",
    "job",
    "loop",
    "map",
    "open",
    "operation",
    "operation_key",
    "output",
    "step",
    "triggers",
]


def __getattr__(name: str) -> Any:
    if name == "Store":  # loads the log and storage layers, which a plain import does not need
        from ckpt.store import Store

        return Store
    if name in ("Logged", "operation"):
        from ckpt.session import logged

        return getattr(logged, name)
    raise AttributeError(f"module 'ckpt' has no attribute {name!r}")
