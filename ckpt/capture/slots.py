"""The variable slots of a running frame: which cell holds a variable, and how to unbind one.

Python offers values (``frame.f_locals``) but neither the cells of a running frame nor, since 3.13, a way to unbind a
local (PEP 667). Both are needed to bring closures and deleted variables back exactly, so the slots are read from the
interpreter's frame: ``PyFrameObject.f_frame`` -> ``_PyInterpreterFrame.localsplus`` (CPython 3.11 to 3.13, Include/
internal/pycore_frame.h). The layout is proven once per process on a frame whose contents are known; where the
proof fails, UnsupportedCodeError is raised where slots are needed, and nothing is read or written.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import sysconfig
import types
from typing import Any

from ckpt.errors import UnsupportedCodeError

_F_FRAME = 24
_STACKTOP = 64
_LOCALSPLUS = 72
_WORD = ctypes.sizeof(ctypes.c_void_p)

WRITE_THROUGH = sys.version_info >= (3, 13)
"""Whether ``frame.f_locals`` writes through to the variables."""


def _unavailable(what: str) -> UnsupportedCodeError:
    return UnsupportedCodeError(
        f"closures and deleted variables cannot be captured on this interpreter: {what}",
        where=f"{sys.implementation.name} {sys.version.split()[0]}",
        fix="use a standard build of CPython 3.11, 3.12 or 3.13",
    )


@functools.lru_cache(maxsize=256)
def slot_names(code: types.CodeType) -> tuple[str, ...]:
    """The variables of ``code`` in slot order: arguments and locals, then cells that are no arguments, then free ones."""
    cells = tuple(name for name in code.co_cellvars if name not in code.co_varnames)
    return code.co_varnames + cells + code.co_freevars


def _slot_array(frame: types.FrameType) -> ctypes.Array[ctypes.c_void_p]:
    address = ctypes.c_void_p.from_address(id(frame) + _F_FRAME).value
    if not address:
        raise _unavailable("a frame without an interpreter frame")
    count = len(slot_names(frame.f_code))
    return (ctypes.c_void_p * count).from_address(address + _LOCALSPLUS)


@functools.cache
def _layout_is_known() -> bool:
    def known(argument: object, missing: object) -> bool:
        cell_variable = [argument]
        plain = object()
        del missing
        frame = sys._getframe()

        def closure() -> object:
            return cell_variable

        slots = dict(zip(slot_names(frame.f_code), _slot_array(frame), strict=True))
        assert closure.__closure__ is not None
        return (
            slots["argument"] == id(argument)
            and slots["plain"] == id(plain)
            and slots["missing"] is None
            and slots["cell_variable"] == id(closure.__closure__[0])
        )

    special_build = sysconfig.get_config_var("Py_GIL_DISABLED") or sysconfig.get_config_var("Py_TRACE_REFS")
    if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return False
    if _WORD != 8 or special_build or hasattr(sys, "gettotalrefcount"):
        return False
    return known(object(), object())


def _slots(frame: types.FrameType) -> ctypes.Array[ctypes.c_void_p]:
    if not _layout_is_known():
        raise _unavailable("its frames are laid out in an unknown way")
    return _slot_array(frame)


def cell_name(frame: types.FrameType, cell: types.CellType) -> str | None:
    """The variable of ``frame`` that lives in ``cell``, or None."""
    code = frame.f_code
    if not code.co_cellvars and not code.co_freevars:
        return None
    address = id(cell)
    for name, slot in zip(slot_names(code), _slots(frame), strict=True):
        if slot == address and name in (*code.co_cellvars, *code.co_freevars):
            return name
    return None


def cell_of(frame: types.FrameType, name: str) -> types.CellType | None:
    """The cell that holds variable ``name`` of ``frame``; None if the variable is no cell (yet)."""
    code = frame.f_code
    if name not in code.co_cellvars and name not in code.co_freevars:
        return None
    slot = _slots(frame)[slot_names(code).index(name)]
    if not slot or ctypes.c_void_p.from_address(slot + _WORD).value != id(types.CellType):
        return None
    cell: types.CellType = ctypes.cast(slot, ctypes.py_object).value
    return cell


def unbind(frame: types.FrameType, name: str) -> None:
    """Make variable ``name`` of ``frame`` unbound, as ``del`` does."""
    cell = cell_of(frame, name)
    if cell is not None:
        del cell.cell_contents
        return
    slots = _slots(frame)
    position = slot_names(frame.f_code).index(name)
    address = slots[position]
    if address:
        slots[position] = None
        # The slot owned one reference: give it back, after nobody can reach the object through the frame any more.
        ctypes.pythonapi.Py_DecRef(ctypes.cast(address, ctypes.py_object))


def operands(frame: types.FrameType) -> list[Any] | None:
    """What the interpreter keeps for ``frame`` besides its variables, while it waits for a Python function that it calls.

    None where that cannot be told: the frame waits for a function written in C (the interpreter then has the depth of
    the stack in a register), or the interpreter's layout is unknown.
    """
    return _operands(frame) if _layout_is_known() and _stack_is_known() else None


def _operands(frame: types.FrameType) -> list[Any] | None:
    address = ctypes.c_void_p.from_address(id(frame) + _F_FRAME).value
    if not address:
        return None
    top = ctypes.c_int.from_address(address + _STACKTOP).value
    variables = len(slot_names(frame.f_code))
    if not variables <= top <= variables + frame.f_code.co_stacksize:
        return None
    words = (ctypes.c_void_p * top).from_address(address + _LOCALSPLUS)
    return [ctypes.cast(word, ctypes.py_object).value for word in words[variables:] if word]


@functools.cache
def _stack_is_known() -> bool:
    def look(frame: types.FrameType) -> Any:
        return _operands(frame)

    known = object()
    _, for_python = [known, look(sys._getframe())]
    _, (for_c, *_) = [known, list(map(look, [sys._getframe()]))]
    return for_python is not None and len(for_python) == 1 and for_python[0] is known and for_c is None
