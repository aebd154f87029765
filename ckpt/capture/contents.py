"""What travels for objects that are refilled in place: the bytes of an array, the attributes of another object."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ckpt.codecs.pickling import OutOfBand


class ArrayContents:
    """The contents of an array that is restored in place: its bytes in C order, out of band."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        numpy = sys.modules["numpy"]
        flat = numpy.ascontiguousarray(self.array).reshape(-1).view(numpy.uint8)
        return array_contents, (OutOfBand(flat), self.array.dtype, self.array.shape)


def array_contents(memory: bytearray, dtype: Any, shape: tuple[int, ...]) -> ArrayContents:
    import numpy

    return ArrayContents(numpy.frombuffer(memory, dtype).reshape(shape))


class Copy:
    """Comes back as another object of the same class: its reduction is the object's own."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        make, arguments, *rest = self.value.__reduce_ex__(5)
        # One call in between: pickle checks that the class that ``copyreg.__newobj__`` makes is that of the object.
        return make_copy, (make, arguments), *rest


def make_copy(make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return make(*arguments)
