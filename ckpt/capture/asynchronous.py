"""Objects of asyncio in a state: which come back, and how; which are refused.

An event loop comes back as the one that runs now, the job's own task as the one that it is now. A future or task that is
done comes back as a future that is done, with the same result, exception or cancellation. One that is pending is refused:
what would complete it is not part of the state. Stored pickles name the functions of this module, so they may be added to
but not renamed. Nothing here imports asyncio unless an object of it is there.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any

from ckpt.errors import UncapturableError


def handler_for(kind: type) -> Callable[[Any], Any] | None:
    """How an object of class ``kind`` is saved; None if asyncio has nothing to do with it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not hasattr(asyncio, "AbstractEventLoop"):
        return None
    if issubclass(kind, asyncio.AbstractEventLoop):
        return _loop
    if issubclass(kind, asyncio.Future):  # tasks are futures
        return _future
    return None


def _loop(value: Any) -> Any:
    return find_loop, ()


def _future(value: Any) -> Any:
    import asyncio

    if value is asyncio.current_task():
        return find_task, ()
    if not value.done():
        is_task = isinstance(value, asyncio.Task)
        raise UncapturableError(
            f"a {'task that is still at work' if is_task else 'future that nobody has completed yet'}",
            fix="await it before the iteration ends (async with asyncio.TaskGroup() in the loop's body)"
            if is_task
            else "await it before the iteration ends, or make it in the loop's body",
        )
    if value.cancelled():
        return make_future, (), ["cancelled", None], None, None, fill_future
    error = value.exception()
    outcome = ["result", value.result()] if error is None else ["exception", error]
    return make_future, (), outcome, None, None, fill_future


def reduce_coroutine(value: Any) -> Any:
    if value.cr_frame is None:
        return make_finished_coroutine, ()
    raise UncapturableError(
        "a coroutine that has not come to its end", fix="await it before the iteration ends, or make it in the loop's body"
    )


def reduce_async_generator(value: Any) -> Any:
    if value.ag_frame is None:
        return make_finished_async_generator, ()
    raise UncapturableError(
        "an async generator in the middle of its work",
        fix="make it the iterable of a marked loop: async for x in ckpt.loop(...)",
    )


def make_finished_coroutine() -> Any:
    coroutine = _nothing()
    coroutine.close()
    return coroutine


def make_finished_async_generator() -> Any:
    generator = _none()
    try:
        generator.aclose().send(None)
    except StopIteration:
        return generator
    raise AssertionError("an async generator that yields nothing awaits nothing")


async def _nothing() -> None:
    pass


async def _none() -> AsyncGenerator[None, None]:
    return
    yield


def find_loop() -> Any:
    import asyncio

    return asyncio.get_running_loop()


def find_task() -> Any:
    import asyncio

    return asyncio.current_task()


def make_future() -> Any:
    import asyncio

    return asyncio.get_running_loop().create_future()


def fill_future(future: Any, outcome: list[Any]) -> None:
    what, value = outcome
    if what == "cancelled":
        future.cancel()
    elif what == "result":
        future.set_result(value)
    else:
        future.set_exception(value)
        future.exception()  # the job has seen it: no complaint when the future is dropped
