"""What asks for the event loop, or keeps out of its way. Imports asyncio only where there is an event loop already."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


def running_loop() -> Any:
    """The event loop that runs in this thread, or None. Imports nothing."""
    events = sys.modules.get("asyncio.events")
    return events._get_running_loop() if events is not None else None


async def in_thread(work: Callable[[], T], executor: Executor | None = None) -> T:
    """``work()`` in a thread. A cancellation meanwhile is raised when it has ended, and its own exception goes before."""
    import asyncio

    future = asyncio.get_running_loop().run_in_executor(executor, work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    result = future.result()
    if cancelled is not None:
        raise cancelled
    return result
