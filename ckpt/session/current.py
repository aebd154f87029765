"""Which run the code that is executing belongs to.

The job's own thread knows its run; other threads of the process find it if it is the only one (steps in a thread pool).
Where the thread has an event loop that runs, only the task that began the run, and tasks that it makes, belong to it: other
tasks of the same loop are none of the run's business. A forked child belongs to no run: marked loops and steps are plain
there.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckpt import host
from ckpt.asynchrony import running_loop
from ckpt.errors import OptionError
from ckpt.settings import is_coroutine_function

if TYPE_CHECKING:
    from ckpt.session.run import Run


@dataclass(frozen=True, slots=True)
class _Entry:
    run: Run
    loop: Any
    task: Any


@dataclass(frozen=True, slots=True)
class _Try:
    """A try of an operation, and how often it has asked for each name (see ``count_in_step``)."""

    identity: bytes
    counts: dict[str, int]


_by_thread: dict[int, _Entry] = {}
_claimed: dict[int, str] = {}
_run: ContextVar[Run | None] = ContextVar("ckpt_run", default=None)
_step: ContextVar[_Try | None] = ContextVar("ckpt_step", default=None)
_plain: ContextVar[bytes | None] = ContextVar("ckpt_plain", default=None)
_address: ContextVar[str | None] = ContextVar("ckpt_address", default=None)


def enter(run: Run) -> None:
    """From here on this thread executes ``run``; with an event loop, this task and those that it makes."""
    loop = running_loop()
    task = sys.modules["asyncio"].current_task(loop) if loop is not None else None
    _by_thread[threading.get_ident()] = _Entry(run, loop, task)
    _run.set(run)


def leave(run: Run) -> None:
    """The inverse of ``enter``; without effect for a run that was not entered."""
    entry = _by_thread.get(threading.get_ident())
    if entry is not None and entry.run is run:
        del _by_thread[threading.get_ident()]
        _run.set(None)


def refuse_second(address: str) -> None:
    """OptionError if another task of this thread's event loop is in a run."""
    entry = _by_thread.get(threading.get_ident())
    other = _claimed.get(threading.get_ident())
    if entry is not None and entry.loop is not None and entry.run.alive:
        other = entry.run.address
    if other is not None:
        raise OptionError(
            f"{address} is started while {other} is running in the same event loop: they share the generators of "
            "random numbers and the signals of the process, so neither could be resumed exactly",
            fix="await one after the other, start a process for each, or make one job of both",
        )


@contextmanager
def alone(address: str) -> Iterator[None]:
    """Inside, no other job is started in this event loop: while an async job is opened, runs, and is closed."""
    refuse_second(address)
    _claimed[threading.get_ident()] = address
    try:
        yield
    finally:
        _claimed.pop(threading.get_ident(), None)


def _own() -> Run | None:
    entry = _by_thread.get(threading.get_ident())
    return entry.run if entry is not None and (entry.loop is None or _run.get() is entry.run) else None


def run_of_thread() -> Run | None:
    """The run whose job this thread executes (not inside a step, where everything is plain)."""
    if not _by_thread:
        return None
    return None if in_step() else _own()


def run_of_process() -> Run | None:
    """The run of this thread, or the only one of the process."""
    if threading.get_ident() in _by_thread:
        return _own()
    runs = [entry.run for entry in _by_thread.values()]
    given = _run.get()  # a thread that was started with a copy of the task's context
    return given if given in runs else runs[0] if len(runs) == 1 else None


def own_task() -> Any:
    """The task of this thread that began the run; None without an event loop."""
    entry = _by_thread.get(threading.get_ident())
    return entry.task if entry is not None else None


def cancellation_is_due() -> bool:
    """Whether the job's own task has been asked to be cancelled, and will be at its next ``await``."""
    return bool(getattr(own_task(), "_must_cancel", False))


def in_order() -> bool:
    """Whether the caller is the job's own thread and task: what it does comes in the same order in every attempt."""
    if run_of_thread() is None:
        return False
    task = own_task()
    return task is None or sys.modules["asyncio"].current_task(running_loop()) is task


def run_of_context(context: Context) -> Run | None:
    """The run that a task with this context belongs to."""
    return context.get(_run)


def context_of_items() -> Context:
    """A copy of the caller's context that belongs to no run: tasks with it may be at work at safe points."""
    context = copy_context()
    context.run(_run.set, None)
    return context


def in_step() -> bytes | None:
    """The identity of the operation that this thread, or this task, is executing, or None."""
    found = _step.get()
    return None if found is None else found.identity


def begin_try(identity: bytes) -> object:
    """From here on this thread, or this task, executes a try of that operation. Gives what ``end_try`` brings back."""
    outer = _step.get()
    _step.set(_Try(identity, {}))
    return outer


def end_try(outer: object) -> None:
    assert outer is None or isinstance(outer, _Try)
    _step.set(outer)


def count_in_step(name: str) -> int:
    """How often this try of the operation has asked so for ``name`` before."""
    found = _step.get()
    if found is None:
        return 0
    found.counts[name] = found.counts.get(name, -1) + 1
    return found.counts[name]


@contextmanager
def plain_step() -> Iterator[None]:
    """Inside, a step is executed that belongs to no run. To other jobs and loops in it nothing is different."""
    outer = _plain.get()
    _plain.set(host.entropy(16))
    try:
        yield
    finally:
        _plain.set(outer)  # no token: a coroutine may be closed in another context


def called_plainly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a step's function where it is not recorded: inside another operation as a part of it, else by itself."""
    if in_step() is not None:
        return function(*args, **kwargs)
    if is_coroutine_function(function):
        return _awaited_plainly(function, args, kwargs)
    with plain_step():
        return function(*args, **kwargs)


async def _awaited_plainly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with plain_step():
        return await function(*args, **kwargs)


def plain_identity() -> bytes | None:
    """16 random bytes, of the step that this thread, or this task, executes outside any run; None in none, and in a run."""
    return _plain.get() if run_of_process() is None else None


def inside(identity: bytes | None, address: str) -> None:
    """This thread, perhaps of a process without any run, executes an item of a map of the run ``address`` (None: ended)."""
    _address.set(address or None)
    _step.set(None if identity is None else _Try(identity, {}))


def address_of_operation() -> str | None:
    """The run whose operation this thread executes: told by whoever sent the item, else the run of the process."""
    address = _address.get()
    if address is None and (run := run_of_process()) is not None:
        return run.key_address
    return address


def _forget_in_child() -> None:
    for entry in _by_thread.values():
        entry.run.disown()
    _by_thread.clear()
    _claimed.clear()
    _step.set(None)
    _plain.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
