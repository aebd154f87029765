"""Tasks that a job has made and that are still alive at a safe point: refused, because a resume would not have them.

Guarantees: no state of a job is kept while a task that belongs to it is at work, unless ``recreate`` names a variable that
holds the task. A task belongs to the run if its context does; what a library does in the background with nothing but its own
code is the library's.
"""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Iterator
from contextvars import Context
from typing import Any

from ckpt.capture import frames
from ckpt.errors import UncapturableError
from ckpt.session import current

_ANYBODYS = ("asyncio",)
"""Packages whose coroutines stand for whoever calls them: ``asyncio.to_thread(work)`` is the job's work."""


def refuse_pending(run: Any, chain: list[types.FrameType], recreate: tuple[str, ...]) -> None:
    """UncapturableError for a task of ``run`` that is at work while the job itself is at a safe point in ``chain``."""
    where = f"{chain[-1].f_code.co_qualname} ({chain[-1].f_code.co_filename}:{chain[-1].f_lineno})" if chain else ""
    if current.cancellation_is_due():
        raise UncapturableError(
            "the job has asked for the cancellation of its own task, which a resume from here would know nothing of",
            where=where,
            fix="await something before the iteration ends (await asyncio.sleep(0)): the cancellation is raised there",
        )
    remade = [found for name in recreate for found in _named(name, chain)]
    home = frames.home_of(chain[0].f_code.co_filename) if chain else ""
    for task in asyncio.all_tasks():
        if task is current.own_task() or any(task is one for one in remade):
            continue
        context = _context_of(task)
        if context is None or current.run_of_context(context) is not run or not _is_of_the_job(task, home):
            continue
        name = getattr(task.get_coro(), "__qualname__", repr(task.get_coro()))
        raise UncapturableError(
            f"the task {name} is at work at a safe point, and would not be after a resume",
            where=where,
            fix="await it before the iteration ends (async with asyncio.TaskGroup() in the loop's body), or, if the code "
            'before the loop makes it again, name the variable that holds it: @ckpt.job(recreate=("task",))',
        )


def _named(path: str, chain: list[types.FrameType]) -> Iterator[Any]:
    first, *rest = path.split(".")
    for frame in chain:
        value = frames.read_variables(frame)[0].get(first)
        for name in rest:
            value = getattr(value, name, None)
        yield value


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    """The task's context; before Python 3.12 it has no method for that, but the garbage collector knows it."""
    if hasattr(task, "get_context"):
        context: Context = task.get_context()
        return context
    return next((one for one in gc.get_referents(task) if isinstance(one, Context)), None)


def _is_of_the_job(task: asyncio.Task[Any], home: str) -> bool:
    """Whether code of the job's, or code that stands for it, is anywhere in what the task executes."""
    at: Any = task.get_coro()
    if not isinstance(at, types.CoroutineType | types.GeneratorType):
        return False  # the event loop's own: an async generator that was given up is being closed
    while isinstance(at, types.CoroutineType | types.GeneratorType):
        code: types.CodeType = at.cr_code if isinstance(at, types.CoroutineType) else at.gi_code
        if not frames.is_library(code, home, but=_ANYBODYS):
            return True
        at = at.cr_await if isinstance(at, types.CoroutineType) else at.gi_yieldfrom
    return False
