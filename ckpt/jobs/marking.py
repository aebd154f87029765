"""Says of a callable that calling it gives a coroutine, so that ``inspect`` and ``asyncio`` know."""

from __future__ import annotations

import inspect
import sys
from typing import Any


def mark_async(function: Any) -> None:
    """Make ``function``, which is no ``async def`` itself, count as a coroutine function (``inspect`` since Python 3.12)."""
    function.__ckpt_async__ = True
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
    else:
        from asyncio import coroutines

        function._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]
