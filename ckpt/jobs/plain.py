"""A run that is none: what ``ckpt.open`` gives with ``CKPT_DISABLE=1``, for comparing. Nothing is stored.

Nothing of the machinery is loaded before it is asked for: who compares wants to know what the program takes without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from ckpt import events

T = TypeVar("T")


class PlainRun:
    """Has what ``session.run.Run`` offers, without any effect."""

    attempt = 1
    resumed = False
    log_position = ""

    def __init__(self, name: str, run_id: str) -> None:
        self.id = run_id
        self.address = f"{name}/{run_id}"

    def __getattr__(self, name: str) -> Any:
        if name not in ("dict", "list", "counter", "logged"):
            raise AttributeError(f"a run has no {name}")
        from ckpt.session.objects import Objects

        self.dict, self.list, self.counter, self.logged = Objects(None).doors
        return self.__dict__[name]

    def state(self, **initial: Any) -> Any:
        from ckpt.session.namespace import Namespace

        return Namespace(**initial)

    def loop(self, iterable: Iterable[T], name: str | None = None, key: Any = None, progress: Any = None) -> Iterable[T]:
        return iterable

    def step(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        from ckpt.jobs.marks import step

        return step(function, **options)

    def checkpoint(self) -> None:
        """Nothing."""

    def request_checkpoint(self) -> None:
        """Nothing."""


_current: ContextVar[PlainRun | None] = ContextVar("ckpt_plain_run", default=None)


def current_plain_run() -> PlainRun | None:
    """The plain run of the job that this code belongs to, with ``CKPT_DISABLE=1``."""
    return _current.get()


@contextmanager
def plainly(name: str) -> Iterator[None]:
    """A block in which ``ckpt.current_run()`` is a plain run of the job ``name``, unless it is one already."""
    if _current.get() is not None:
        yield
        return
    token = _current.set(PlainRun(name, "plain"))
    events.emit("entered")
    try:
        yield
    finally:
        _current.reset(token)
