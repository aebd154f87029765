"""``ckpt.map``: one function over many items, recorded item by item."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import Any, Literal, Protocol, TypeVar, overload

from ckpt.mapping.failed import Failed
from ckpt.session import current

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class MapResults(Iterable[R_co], AsyncIterable[R_co], Protocol[R_co]):
    """The results of a map, to be gone through once: by ``for``, or by ``async for`` in an async job."""


@overload
def map(
    function: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    key: Callable[[T], object] | None = None,
    executor: None = None,
    max_workers: int | None = None,
    ordered: bool = True,
    retries: int = 0,
    backoff: float = 1.0,
    retry_on: tuple[type[BaseException], ...] | type[BaseException] = (Exception,),
    retry_for: float | str | None = None,
    timeout: float | str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    limit: str | None = None,
    progress: bool | None = None,
) -> MapResults[R]: ...


@overload
def map(
    function: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    on_error: Literal["collect"],
    key: Callable[[T], object] | None = None,
    executor: None = None,
    max_workers: int | None = None,
    ordered: bool = True,
    retries: int = 0,
    backoff: float = 1.0,
    retry_on: tuple[type[BaseException], ...] | type[BaseException] = (Exception,),
    retry_for: float | str | None = None,
    timeout: float | str | None = None,
    limit: str | None = None,
    progress: bool | None = None,
) -> MapResults[R | Failed]: ...


@overload
def map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    key: Callable[[T], object] | None = None,
    executor: Any = None,
    max_workers: int | None = None,
    ordered: bool = True,
    retries: int = 0,
    backoff: float = 1.0,
    retry_on: tuple[type[BaseException], ...] | type[BaseException] = (Exception,),
    retry_for: float | str | None = None,
    timeout: float | str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    limit: str | None = None,
    progress: bool | None = None,
) -> MapResults[R]: ...


@overload
def map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    on_error: Literal["collect"],
    key: Callable[[T], object] | None = None,
    executor: Any = None,
    max_workers: int | None = None,
    ordered: bool = True,
    retries: int = 0,
    backoff: float = 1.0,
    retry_on: tuple[type[BaseException], ...] | type[BaseException] = (Exception,),
    retry_for: float | str | None = None,
    timeout: float | str | None = None,
    limit: str | None = None,
    progress: bool | None = None,
) -> MapResults[R | Failed]: ...


def map(function: Any, items: Iterable[Any], **options: Any) -> Any:
    """The results of ``function(item)`` for each of ``items``: durable before they are handed out, executed in parallel.

    Lazy: items are read as results are taken, a few times ``max_workers`` ahead. After a kill the same call hands out what
    was recorded and executes only the rest. Items are known by ``key(item)``, or by their digest; equal ones by their
    occurrence. ``ckpt.loop(ckpt.map(...))`` makes each result a safe point, for long maps and loop bodies with state.

    An ``async def`` is awaited for each item, ``max_workers`` (32) coroutines at a time: in an async job, where results are
    taken by ``async for``, in the job's event loop, elsewhere in one of the map's own. ``async for`` is right for every function
    and executor, and lets the event loop go on.

    ``executor``: ``"threads"`` (default), ``"processes"``, ``"dask://host:port"``, ``"ray"``, any
    ``concurrent.futures.Executor``, a ``dask.distributed.Client``, or a function that makes an executor, which is then made
    again if it breaks. ``ordered=False`` hands results out as they are finished. ``retries`` more tries after an
    exception of ``retry_on``, after ``backoff`` seconds, doubling, with jitter, within ``retry_for`` of the first. ``timeout``
    (processes, Ray, coroutines) ends a try for real. ``on_error``: ``"raise"`` the exception, ``"collect"`` a ``ckpt.Failed`` in place of the
    result, or ``"skip"`` the item; failed items stay in the log (``ckpt failed``, ``ckpt retry``). ``limit``: tries per
    second, minute or hour (``"100/m"``). Times are seconds or texts like ``"30s"``.

    Raises OptionError and UnsupportedCodeError here; while results are taken: IdentityError (an item without a digest),
    the exception of an item, ExecutorLostError, StorageError, Preempted. Outside a job nothing is recorded.
    """
    from ckpt.mapping.options import MapOptions, check_call
    from ckpt.settings import Environment, check_names

    check_names(options, MapOptions.__dataclass_fields__, "ckpt.map")
    chosen = MapOptions(**options)
    check_call(function, items, chosen)
    if chosen.progress is None and Environment.read().progress:
        chosen = MapOptions(**{**options, "progress": True})
    run = current.run_of_process()
    if run is None or not run.alive or current.in_step() is not None:
        from ckpt import host
        from ckpt.session.mapping import plain_results

        return plain_results(function, items, chosen, host.SystemClock(), host.entropy)
    return run.maps.results(function, items, chosen)
