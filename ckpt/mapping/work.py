"""What is done with items where they are executed: a thread, a process, or another machine.

Results travel as the bytes that are recorded: they are pickled once, by the worker.
"""

from __future__ import annotations

import functools
import time
import traceback
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ckpt.codecs.pickling import from_bytes, to_bytes, to_portable_bytes
from ckpt.errors import ItemError, UncapturableError

OK, RAISED = 0, 1

Outcome = tuple[int, bytes, str, bool, float]
"""(OK or RAISED, the pickled result or exception, the exception as text, whether it may be tried again, seconds)."""

Inside = Callable[[bytes | None, str], None]
"""Told, in the worker, which operation of which run begins (None: it ended): the map's identity with the item's behind it."""

timer = time.perf_counter


_RESULT = "result of an item"


@dataclass(frozen=True, slots=True)
class Work:
    """The function of a map, with what a worker needs to know. Can be pickled, whatever the function is."""

    function: Callable[[Any], Any]
    retry_on: tuple[type[BaseException], ...]
    address: str
    map_identity: bytes
    inside: Inside

    def __call__(self, chunk: Sequence[tuple[bytes, Any]]) -> list[Outcome]:
        """Execute the items of ``chunk`` one after the other."""
        return [self._one(identity, item) for identity, item in chunk]

    def _one(self, identity: bytes, item: Any) -> Outcome:
        began = timer()
        self.begin(identity)
        try:
            return OK, to_bytes(_checked(self.function(item))), "", False, timer() - began
        except Exception as error:  # noqa: BLE001 - it is what the item gave: the map decides what becomes of it
            return self.failure(error, began)
        finally:
            self.end()

    def begin(self, identity: bytes) -> None:
        """This thread, or task, executes the item from here on."""
        self.inside(self.map_identity + identity, self.address)

    def end(self) -> None:
        self.inside(None, self.address)

    def failure(self, error: Exception, began: float) -> Outcome:
        """The outcome of an item that raised ``error``; ``began`` by ``timer``."""
        retryable = isinstance(error, self.retry_on)
        if isinstance(error, UncapturableError):
            fix = error.fix if error.where == _RESULT else "return plain data from the function"
            error, retryable = UncapturableError(error.what, where=_RESULT, fix=fix), False
        return RAISED, encode_error(error), text_of(error), retryable, timer() - began

    def __reduce__(self) -> tuple[Any, ...]:
        portable = to_portable_bytes((self.function, self.retry_on))
        return _loaded, (portable, self.address, self.map_identity, self.inside)


def _checked(result: Any) -> Any:
    """The result of a plain function. UncapturableError if it is a coroutine, which nobody awaits here."""
    if type(result) is types.CoroutineType:
        result.close()
        fix = "make it an async def, by which ckpt.map knows that it is to be awaited"
        raise UncapturableError("the function returned a coroutine", where=_RESULT, fix=fix)
    return result


@functools.lru_cache(maxsize=8)
def _loaded(data: bytes, address: str, map_identity: bytes, inside: Inside) -> Work:
    """The work again, in a worker; kept, because each chunk brings it along."""
    function, retry_on = from_bytes(data)
    return Work(function, retry_on, address, map_identity, inside)


def text_of(error: BaseException) -> str:
    """``ValueError: what it says``, in at most 500 characters."""
    return f"{type(error).__name__}: {error}"[:500]


def encode_error(error: BaseException) -> bytes:
    """The exception with the place where it was raised as a note; an ItemError where it cannot be pickled."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    try:
        data = to_bytes(error)
        from_bytes(data)
    except Exception:  # noqa: BLE001 - whatever its class raises: then its text has to do
        data = to_bytes(ItemError(text_of(error)))
    if error.__traceback__ is None:
        return data
    kept = from_bytes(data)
    kept.add_note("".join(lines[-8:]).rstrip())
    return to_bytes(kept)
