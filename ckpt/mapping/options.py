"""The options of ``ckpt.map``, validated when it is called."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckpt.errors import OptionError, UnsupportedCodeError
from ckpt.settings import is_coroutine_function, parse_duration

ON_ERROR = ("raise", "collect", "skip")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How items are executed. Times are seconds; None is "no limit".

    ``retries`` further tries after an exception of ``retry_on``, the first after ``backoff`` seconds, doubling, with
    jitter, none later than ``retry_for`` after the first try began. ``timeout`` ends one try.
    """

    key: Callable[[Any], object] | None = None
    executor: Any = None
    max_workers: int | None = None
    ordered: bool = True
    retries: int = 0
    backoff: float = 1.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    retry_for: float | str | None = None
    timeout: float | str | None = None
    on_error: str = "raise"
    limit: str | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.key is not None and not callable(self.key):
            raise OptionError(f"key={self.key!r} identifies no item", fix="give a function of an item: key=lambda x: x.id")
        if self.max_workers is not None and not (isinstance(self.max_workers, int) and self.max_workers > 0):
            raise OptionError(f"max_workers={self.max_workers!r} is not a number of workers", fix="give 1 or more")
        if not isinstance(self.retries, int) or self.retries < 0:
            raise OptionError(f"retries={self.retries!r} is not a number of tries", fix="give 0 or more")
        if not isinstance(self.backoff, int | float) or not self.backoff >= 0:
            raise OptionError(f"backoff={self.backoff!r} is not a number of seconds", fix="give 0 or more")
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise OptionError(f"retry_on names {kind!r}, which is no exception", fix="write retry_on=(OSError,)")
        if self.on_error not in ON_ERROR:
            choices = ", ".join(map(repr, ON_ERROR))
            raise OptionError(f"on_error={self.on_error!r} is unknown", fix=f"give one of {choices}")
        self.timeout_s, self.retry_for_s, self.interval_s  # noqa: B018 - each of them validates

    @property
    def timeout_s(self) -> float | None:
        return _seconds("timeout", self.timeout)

    @property
    def retry_for_s(self) -> float:
        seconds = _seconds("retry_for", self.retry_for)
        return math.inf if seconds is None else seconds

    @property
    def interval_s(self) -> float:
        """Seconds between the beginnings of two tries, as ``limit`` wants it; 0 for no limit."""
        if self.limit is None:
            return 0.0
        found = re.fullmatch(r"(\d+(?:\.\d+)?)/([smh])", self.limit) if isinstance(self.limit, str) else None
        if found is None or not float(found[1]) > 0:
            raise OptionError(f"limit={self.limit!r} is no rate", fix='write it like "10/s", "100/m" or "5000/h"')
        return _UNITS_S[found[2]] / float(found[1])


def _seconds(name: str, given: float | str | None) -> float | None:
    if given is None:
        return None
    seconds = parse_duration(given) if isinstance(given, str) else given
    if not isinstance(seconds, int | float) or not seconds > 0:
        raise OptionError(f"{name}={given!r} is no time", fix='give seconds above 0, or a text like "30s"')
    return float(seconds)


def check_call(function: Any, items: Any, options: MapOptions) -> None:
    """OptionError, UnsupportedCodeError for what cannot be called for each item."""
    if not callable(function):
        raise OptionError(f"ckpt.map got a {type(function).__name__}", fix="give it a function: ckpt.map(fn, items)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UnsupportedCodeError(
            f"{function.__qualname__} is a generator function, which has no result to record",
            where="ckpt.map",
            fix="make it a function (def or async def) that returns its result",
        )
    if is_coroutine_function(function) and options.executor is not None:
        raise OptionError(
            f"executor={options.executor!r} executes no coroutines: they are all executed in one event loop",
            where="ckpt.map",
            fix="leave out executor= (max_workers= says how many at a time), or map a plain function that calls asyncio.run",
        )
    if hasattr(type(items), "__aiter__") and not hasattr(type(items), "__iter__"):
        raise OptionError(
            f"ckpt.map got a {type(items).__qualname__} of items, which only async for can read",
            fix="ckpt.map(fn, [item async for item in items]), or async for item in ckpt.loop(items) and a step",
        )
