"""Copies and comparisons of plain memory that release the GIL, and where the bytes of a buffer are."""

from __future__ import annotations

import ctypes

SMALL_COPY = 128 * 1024
"""Copies below this hold the GIL for some ten microseconds; to give it away and get it back may take as long."""

_system = ctypes.CDLL(None)
_copy_releasing = _system.memmove
_copy_holding = ctypes.PyDLL(None).memmove
_compare = _system.memcmp
for _function in (_copy_releasing, _copy_holding, _compare):
    _function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    _function.restype = ctypes.c_int


def copy(target: int, source: int, nbytes: int) -> None:
    """Copy ``nbytes`` bytes from address ``source`` to ``target``; large copies release the GIL."""
    (_copy_holding if nbytes < SMALL_COPY else _copy_releasing)(target, source, nbytes)


def equal(first: int, second: int, nbytes: int) -> bool:
    """Whether ``nbytes`` bytes at two addresses are the same. Releases the GIL."""
    return not _compare(first, second, nbytes)


class _PyBuffer(ctypes.Structure):
    """``Py_buffer`` of CPython's stable ABI (3.11 and later)."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None


class Address:
    """The address of a contiguous view's bytes, held in place inside the ``with`` block.

    ctypes itself gives addresses of writable memory only, and numpy must not be required.
    """

    __slots__ = ("_buffer", "_view")

    def __init__(self, view: memoryview) -> None:
        self._view, self._buffer = view, _PyBuffer()

    def __enter__(self) -> int:
        _get_buffer(self._view, ctypes.byref(self._buffer), 0)  # raises BufferError by itself
        return int(self._buffer.buf or 0)

    def __exit__(self, *_: object) -> None:
        _release_buffer(ctypes.byref(self._buffer))
