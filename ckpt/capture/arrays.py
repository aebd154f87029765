"""numpy arrays in a state: memory that arrays share stays shared, and the layout of views is kept.

An array that owns its memory, or a contiguous view that nothing else in the state overlaps, is left to numpy's own
out-of-band pickling. Other views are saved as (memory, offset, shape, strides): the memory is the whole root array
when several captured arrays live in it, else only the part that the view spans. Layout matters for exactness: the
order of a floating-point sum depends on the strides.

Sharing is known only when every array was seen. So pickling runs once, and a second time if two arrays turned out to
share memory; ``SharedMemory.shared_roots`` carries that knowledge over (and to the next checkpoint).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ckpt.codecs.pickling import OutOfBand
from ckpt.errors import UncapturableError


def is_array_type(kind: type) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(kind, numpy.ndarray)


def root_of(array: Any) -> Any:
    """The object that owns the memory of ``array``: an ndarray, or whatever exported the memory to the first one."""
    owner = array
    # Through arrays and through what numpy puts between them (as_strided).
    while type(owner).__module__.partition(".")[0] == "numpy" and getattr(owner, "base", None) is not None:
        owner = owner.base
    while isinstance(owner, memoryview):
        owner = owner.obj
    return owner


MAX_NAMED = 256
"""With more buffers than this in a state, which of them is which variable is not looked up: it costs a microsecond each."""


def parts_by_name(named: dict[str, Any], buffers: list[Any]) -> dict[str, int]:
    """Which of the pickle's buffers, counted from 1, is all the memory of which of the ``named`` arrays."""
    arrays = {name: value for name, value in named.items() if is_array_type(type(value)) and value.nbytes}
    if not arrays or len(buffers) > MAX_NAMED:
        return {}
    import numpy

    at = {}
    for number, buffer in enumerate(buffers, 1):
        raw = buffer.raw()
        if raw.nbytes:
            at[numpy.frombuffer(raw, numpy.uint8).ctypes.data, raw.nbytes] = number
    found = {name: at.get((value.ctypes.data, value.nbytes)) for name, value in arrays.items()}
    return {name: number for name, number in found.items() if number is not None}


def flat_memory(root: Any) -> Any:
    """All bytes that ``root`` (an array that owns its memory, bytes or a bytearray) occupies, as an array over them."""
    import numpy

    if not isinstance(root, numpy.ndarray):
        return numpy.frombuffer(root, numpy.uint8)
    root = root.view(numpy.ndarray)
    if root.flags.c_contiguous or root.flags.f_contiguous:
        return _in_a_row(root).view(numpy.uint8)
    low, size = _extent(root)
    return _raw(_address(root) + low, size, root)


def _in_a_row(array: Any) -> Any:
    """The elements of a contiguous array as they lie in memory."""
    return (array if array.flags.c_contiguous else array.T).reshape(-1)


def view_of(memory: Any, dtype: Any, layout: tuple[Any, ...]) -> Any:
    """The array of ``dtype`` at ``layout`` (shape, strides, offset in bytes, writeable) in ``memory``."""
    import numpy

    shape, strides, offset, writeable = layout
    array = numpy.ndarray(shape, dtype, memory, offset, strides)
    array.flags.writeable = writeable and array.flags.writeable
    return array


def part_of(root: Any, layout: tuple[Any, ...]) -> Any:
    """The part of an array of objects at ``layout`` (shape, strides in bytes, first element, writeable) in its memory."""
    from numpy.lib.stride_tricks import as_strided

    shape, strides, first, writeable = layout
    return as_strided(_in_a_row(root)[first:], shape, strides, writeable=writeable)


class SharedMemory:
    """Decides, array by array, how one pickling pass saves it."""

    def __init__(self, visible_root: Callable[[Any], Any]) -> None:
        """``visible_root(root)`` tells how to find a root that the caller owns again, or None if it is the job's own."""
        self._visible_root = visible_root
        self.shared_roots: set[int] = set()
        self.foreign: set[int] = set()
        """Ids of bytearrays that are captured as values of their own: no array may share their memory."""
        self.met: list[Any] = []
        """The arrays of this pass, where the job uses torch: tensors may share their memory."""
        self.refused: Any = None
        """The array whose sharing was refused last, until it is taken: for the name of the variable that leads to it."""
        self._seen: dict[int, tuple[Any, int]] = {}
        self._spans: dict[int, OutOfBand] = {}

    def begin(self) -> None:
        """Start a pickling pass."""
        self.met.clear()
        self._seen.clear()
        self._spans.clear()

    def found_sharing(self) -> bool:
        """End a pass: whether arrays that share memory were saved apart, so that another pass is needed."""
        new = {root for root, (_, count) in self._seen.items() if count > 1} - self.shared_roots
        self.shared_roots |= new
        return bool(new)

    def end(self) -> None:
        """Forget what belonged to the pass; a root that no longer has several arrays is left alone next time."""
        self.shared_roots &= {root for root, (_, count) in self._seen.items() if count > 1}
        self.begin()

    def reduce(self, array: Any) -> Any:
        """A reduction for ``array``, or NotImplemented where numpy's own is exact."""
        if "torch" in sys.modules:
            self.met.append(array)
        root = root_of(array)
        owned = self._visible_root(root)
        if owned is not None and not array.dtype.hasobject:
            return view_of, (owned, array.dtype, _layout(array, _address(flat_memory(root))))
        if root is not array or id(root) in self._seen:
            _, count = self._seen.get(id(root), (root, 0))
            self._seen[id(root)] = (root, count + 1)
        elif array.nbytes:
            self._seen[id(root)] = (root, 1)
        if id(root) in self.shared_roots and is_array_type(type(root)) and root.dtype.hasobject:
            return self._of_objects(array, root)
        if array.dtype.hasobject:
            return NotImplemented
        if id(root) in self.shared_roots or id(root) in self.foreign:
            return self._of_root(array, root)
        if array.flags.c_contiguous or array.flags.f_contiguous or array.size == 0:
            return NotImplemented
        return self._of_span(array)

    def refuse_shared(self, array: Any) -> Any:
        """The same for a subclass of ndarray, which saves itself: it must have its memory for itself."""
        if "torch" in sys.modules:
            self.met.append(array)
        root = root_of(array)
        _, count = self._seen.get(id(root), (root, 0))
        self._seen[id(root)] = (root, count + 1)
        if count or id(root) in self.shared_roots or self._visible_root(root) is not None:
            self.refused = array
            raise UncapturableError(
                f"a {type(array).__name__} shares its memory with another array", fix="copy it: a = a.copy()"
            )
        return NotImplemented

    def _of_objects(self, array: Any, root: Any) -> Any:
        """A part of an array of objects, which is saved whole: memory full of references is nothing to copy."""
        if root is array:
            return NotImplemented
        whole = type(root) is type(array) and root.dtype == array.dtype and (root.flags.c_contiguous or root.flags.f_contiguous)
        if not whole:
            self.refused = array
            raise UncapturableError("arrays of objects share memory", fix="copy one of them: a = a.copy()")
        shape, strides, start, writeable = _layout(array, _address(root))
        return part_of, (root, (shape, strides, start // array.itemsize, writeable))

    def _of_root(self, array: Any, root: Any) -> Any:
        numpy = sys.modules["numpy"]
        if type(root) not in (numpy.ndarray, bytes, bytearray) or id(root) in self.foreign:
            self.refused = array
            raise UncapturableError(
                f"an array shares the memory of a {type(root).__name__} that is captured, or of another array",
                fix="copy it: a = a.copy()",
            )
        span = self._spans.get(id(root))
        if span is None:
            span = self._spans[id(root)] = OutOfBand(flat_memory(root))
        return view_of, (span, array.dtype, _layout(array, _address(span.memory)))

    def _of_span(self, array: Any) -> Any:
        low, size = _extent(array)
        memory = _raw(_address(array) + low, size, array)
        return view_of, (OutOfBand(memory), array.dtype, _layout(array, _address(array) + low))


def bounds_of(array: Any) -> tuple[int, int]:
    """Addresses of the first byte of the elements of ``array`` and of the one behind the last."""
    low, size = _extent(array)
    return _address(array) + low, _address(array) + low + size


def _extent(array: Any) -> tuple[int, int]:
    """(lowest byte relative to the first element, number of bytes) that the elements of ``array`` lie in."""
    low = high = 0
    for length, stride in zip(array.shape, array.strides, strict=True):
        step = (length - 1) * stride
        low, high = low + min(step, 0), high + max(step, 0)
    return low, high - low + int(array.itemsize)


def _layout(array: Any, start: int) -> tuple[Any, ...]:
    """Where ``array`` lies in memory that begins at address ``start``."""
    return array.shape, array.strides, _address(array) - start, bool(array.flags.writeable)


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _raw(address: int, size: int, owner: Any) -> Any:
    """A byte array over ``size`` bytes at ``address``, which belong to ``owner``."""
    import numpy

    class _Exporter:
        __array_interface__ = {"version": 3, "data": (address, not owner.flags.writeable), "shape": (size,), "typestr": "|u1"}  # noqa: RUF012

        def __init__(self) -> None:
            self.owner = owner

    return numpy.asarray(_Exporter())
