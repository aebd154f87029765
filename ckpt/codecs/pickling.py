"""The picklers under the capture layer: ``pickle`` first, ``cloudpickle`` for functions and classes without an address.

Both know the same two hooks: ``reduce(obj)`` (a reduction or NotImplemented; not asked for exact builtin containers,
numbers and texts) and, where given, ``persistent_id(obj)`` (asked for everything, so only used when needed).
Buffers of ``IN_BAND_LIMIT`` bytes and more travel out of band (PEP 574), and so do ``bytes`` and ``bytearray`` of 64 KiB and
more, wherever they are (``lifting``).
"""

from __future__ import annotations

import gc
import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ckpt.codecs.lifting import Skeleton
from ckpt.errors import UncapturableError

IN_BAND_LIMIT = 2048
"""Below this a buffer costs less inside the pickle than as a part of its own."""

Reduce = Callable[[Any], Any]
PersistentId = Callable[[Any], Any]


class _Pickler(pickle.Pickler):
    pass


class _NumberingPickler(pickle.Pickler):
    def __init__(self, out: Skeleton, persistent: PersistentId, collect: Callable[[pickle.PickleBuffer], bool]) -> None:
        super().__init__(out, protocol=5, buffer_callback=collect)
        self._persistent = persistent

    def persistent_id(self, obj: Any) -> Any:
        return self._persistent(obj)


class OutOfBand:
    """Makes a bytes-like object travel as a part of its own; comes back as a bytearray."""

    __slots__ = ("memory",)

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce__(self) -> tuple[Any, ...]:
        return writable, (pickle.PickleBuffer(self.memory),)


class OutOfBandBytes:
    """The same, but comes back as bytes."""

    __slots__ = ("memory",)

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (pickle.PickleBuffer(self.memory),)


def writable(memory: Any) -> bytearray:
    """The memory of a loaded buffer to build on: writable, whatever the buffer was when it was saved."""
    if isinstance(memory, memoryview) and isinstance(memory.obj, bytearray) and len(memory.obj) == memory.nbytes:
        return memory.obj
    return memory if isinstance(memory, bytearray) else bytearray(memory)


class NeedsByValue(Exception):
    """Raised by a ``reduce`` hook that met something only cloudpickle can save."""


def dump(
    value: object,
    reduce: Reduce,
    persistent: PersistentId | None = None,
    *,
    by_value: bool = False,
    met: Callable[[Iterable[int]], None] | None = None,
) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """(skeleton, out-of-band buffers). The buffers alias live memory: copy them before the job goes on.

    ``by_value`` lets ``reduce`` hand functions and classes to ``reduce_by_value``; it costs an import of cloudpickle.
    ``met`` is told the ids of the objects that were saved by value, before the buffers are given out.
    """
    buffers: list[pickle.PickleBuffer] = []

    def collect(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < IN_BAND_LIMIT:
            return True
        buffers.append(buffer)
        return False

    out = Skeleton(collect)
    pickler: Any
    if persistent is None:
        pickler = _Pickler(out, protocol=5, buffer_callback=collect)
    else:
        pickler = _NumberingPickler(out, persistent, collect)
    if by_value:
        import cloudpickle

        pickler.dispatch_table = cloudpickle.Pickler.dispatch_table
    pickler.reducer_override = reduce
    with _collector_paused():
        pickler.dump(value)
    if met is not None:
        met(pickler.memo.copy().keys())
    return out.getvalue(), buffers


def reduce_by_value(obj: Any) -> Any:
    """cloudpickle's reduction of a function or class that cannot be imported by name."""
    import cloudpickle

    return cloudpickle.Pickler(io.BytesIO(), protocol=5).reducer_override(obj)


def to_bytes(value: object) -> bytes:
    """One value by itself. UncapturableError if it cannot be pickled, not even by cloudpickle."""
    try:
        return pickle.dumps(value, protocol=5)
    except MemoryError:
        raise
    except Exception as first:  # noqa: BLE001 - whatever a class raises here becomes a named refusal
        import cloudpickle

        try:
            return bytes(cloudpickle.dumps(value, protocol=5))
        except Exception as error:
            raise UncapturableError(
                f"a {type(value).__qualname__} cannot be saved ({type(first).__name__}: {first})"
            ) from error


def to_portable_bytes(value: object) -> bytes:
    """The same for another process, whose ``__main__`` is another one: what this program's script defines goes by value."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value, protocol=5))
    except Exception as error:
        raise UncapturableError(f"a {type(value).__qualname__} cannot be sent ({type(error).__name__}: {error})") from error


def from_bytes(data: Any) -> Any:
    """The value of ``to_bytes``. Only for bytes whose MAC has been verified."""
    return pickle.loads(data)


class _NumberingUnpickler(pickle.Unpickler):
    def __init__(self, data: Any, buffers: Iterable[Any], resolve: Callable[[Any], Any]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._resolve = resolve

    def persistent_load(self, pid: Any) -> Any:
        return self._resolve(pid)


def load(skeleton: Any, buffers: Iterable[Any], resolve: Callable[[Any], Any]) -> Any:
    """The value again. Only for bytes whose MAC has been verified: unpickling runs code."""
    with _collector_paused():
        return _NumberingUnpickler(skeleton, buffers, resolve).load()


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No cyclic garbage collection inside: with a million objects that are all alive it takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
