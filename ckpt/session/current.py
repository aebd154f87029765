"""Which run the code that is executing belongs to.

The job's own thread knows its run; other threads of the process find it if it is the only one (steps in a thread pool).
A forked child belongs to no run: marked loops and steps are plain there.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckpt.session.run import Run

_by_thread: dict[int, Run] = {}
_step_depth = threading.local()


def enter(run: Run) -> None:
    _by_thread[threading.get_ident()] = run


def leave() -> None:
    _by_thread.pop(threading.get_ident(), None)


def run_of_thread() -> Run | None:
    """The run whose job this thread executes (not inside a step, where everything is plain)."""
    if not _by_thread:
        return None
    return None if in_step() else _by_thread.get(threading.get_ident())


def run_of_process() -> Run | None:
    """The run of this thread, or the only one of the process."""
    run = _by_thread.get(threading.get_ident())
    if run is None and len(_by_thread) == 1:
        run = next(iter(_by_thread.values()))
    return run


def in_step() -> bytes | None:
    """The identity of the operation that this thread is executing, or None."""
    identity: bytes | None = getattr(_step_depth, "identity", None)
    return identity


def set_step(identity: bytes | None) -> None:
    _step_depth.identity = identity


def inside(identity: bytes | None, address: str) -> None:
    """This thread, perhaps of a process without any run, executes an item of a map of the run ``address`` (None: ended)."""
    _step_depth.address = address or None
    set_step(identity)


def address_of_operation() -> str | None:
    """The run whose operation this thread executes: told by whoever sent the item, else the run of the process."""
    address: str | None = getattr(_step_depth, "address", None)
    if address is None and (run := run_of_process()) is not None:
        return run.address
    return address


def _forget_in_child() -> None:
    for run in _by_thread.values():
        run.disown()
    _by_thread.clear()
    set_step(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
