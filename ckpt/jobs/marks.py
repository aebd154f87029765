"""What is called inside a job: ``loop``, ``step``, ``operation_key``, ``current_run``. Outside a job they are plain."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from ckpt.errors import OptionError
from ckpt.jobs.marking import mark_async
from ckpt.session import current
from ckpt.settings import check_step_options, is_coroutine_function

if TYPE_CHECKING:
    from ckpt.jobs.mapping import MapResults
    from ckpt.session.operations import StepSpec
    from ckpt.session.run import Run

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@overload
def loop(
    iterable: MapResults[T],
    name: str | None = None,
    key: Callable[[T], object] | None = None,
    progress: bool | None = None,
) -> MapResults[T]: ...


@overload
def loop(
    iterable: Iterable[T],
    name: str | None = None,
    key: Callable[[T], object] | None = None,
    progress: bool | None = None,
) -> Iterable[T]: ...


@overload
def loop(
    iterable: AsyncIterable[T],
    name: str | None = None,
    key: Callable[[T], object] | None = None,
    progress: bool | None = None,
) -> AsyncIterable[T]: ...


def loop(iterable: Any, name: str | None = None, key: Any = None, progress: bool | None = None) -> Any:
    """Mark a loop: its iterations are safe points, and a resumed job goes on in its middle.

    An asynchronous iterable is iterated by ``async for``, any other one by ``for``, in an async job, too.

    ``name`` identifies the loop (default: its place in the function); ``key(item)`` identifies items, so that inserted,
    removed and reordered items are handled right; ``progress=True`` shows a bar on a terminal. Outside a job, in a
    child process and inside a step this is plain iteration. Raises UnsupportedCodeError where the loop could not be
    resumed exactly, InputChangedError when the input is not what was consumed before.
    """
    run = current.run_of_thread()
    if run is None or not run.alive:
        return iterable
    from ckpt.capture import sites
    from ckpt.session.loops import MarkedLoop

    return MarkedLoop(run, iterable, sites.site_at(sys._getframe(1)), name, key, progress)


loop.__ckpt_marker__ = "loop"  # type: ignore[attr-defined]


@overload
def step(function: F) -> F: ...


@overload
def step(
    function: None = None,
    *,
    name: str | None = None,
    key: object = None,
    retries: int = 0,
    backoff: float = 1.0,
    retry_on: tuple[type[BaseException], ...] = (Exception,),
    record_errors: bool = False,
) -> Callable[[F], F]: ...


@overload
def step(
    function: F,
    *,
    name: str | None = None,
    key: object = None,
    retries: int = 0,
    backoff: float = 1.0,
    retry_on: tuple[type[BaseException], ...] = (Exception,),
    record_errors: bool = False,
) -> F: ...


def step(function: Any = None, **options: Any) -> Any:
    """``function`` as a step: its result is durable in the log when it returns, and is not computed again on a resume.

    ``step(fn)(*args)``, or a decorator; ``await step(fn)(*args)`` for an async function, where other tasks go on while the
    record is made durable. ``key``: a value, or a function of the arguments, that identifies the call where
    the arguments have no stable digest; ``name`` stands for the function's own. ``retries`` more tries after an
    exception of ``retry_on``, after ``backoff`` seconds, doubling, with jitter; ``record_errors=True`` records an
    exception that remains. Results are recorded at most once and steps executed at least once: for effects outside
    use ``operation_key()``.
    """
    check_step_options(options)
    if function is None:
        return lambda decorated: step(decorated, **options)
    if not callable(function):
        raise OptionError(f"ckpt.step got a {type(function).__name__}", fix="give it a function: ckpt.step(fn)(*args)")

    specs: list[StepSpec] = []

    @functools.wraps(function, updated=())
    def recorded(*args: Any, **kwargs: Any) -> Any:
        run = current.run_of_process()
        if run is None or not run.alive or current.in_step() is not None:
            return current.called_plainly(function, args, kwargs)
        if not specs:
            from ckpt.session.operations import make_spec

            specs.append(make_spec(function, options))
        return run.operations.call(specs[0], args, kwargs)

    recorded.__ckpt_marker__ = "step"  # type: ignore[attr-defined]
    if is_coroutine_function(function):
        mark_async(recorded)
    return recorded


def operation_key() -> str:
    """Inside a step: a text that is the same whenever this operation is executed again, for idempotent requests.

    32 hexadecimal digits, of this operation of this run alone: a step, or an item of a map, whose function is executed. A run that
    is started afresh (``fresh=True``) has other ones from then on; after ``ckpt reset`` they are the same, after ``ckpt rm``, too.
    Outside a job and with ``CKPT_DISABLE=1``, where nothing is remembered, each execution of a step, and each call of a
    map, has random ones. OptionError outside a step.
    """
    identity, address = current.in_step(), current.address_of_operation()
    if identity is None:
        identity, address = current.plain_identity(), None
    if identity is None:
        raise OptionError("operation_key() is called outside a step", fix="call it in a function that runs as ckpt.step")
    from ckpt.session.operations import operation_key as key_of

    return key_of(address or "", identity)


def current_run() -> Run | None:
    """The run that the calling code belongs to, or None. In a plain job with ``CKPT_DISABLE=1`` a run without effect."""
    run = current.run_of_process()
    if run is None and "ckpt.jobs.plain" in sys.modules:
        return cast("Run | None", sys.modules["ckpt.jobs.plain"].current_plain_run())
    return run if run is not None and run.alive else None


current_run.__ckpt_marker__ = "run"  # type: ignore[attr-defined]
