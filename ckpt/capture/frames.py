"""The frames between a job and a safe point: which they are, what their variables hold, and how they are set back.

A frame cannot be entered in its middle. What is possible, and done here, is to run the function again up to the same
place and then write all its variables (PEP 667 since Python 3.13, ``PyFrame_LocalsToFast`` before).
"""

from __future__ import annotations

import ctypes
import functools
import os
import site
import sys
import sysconfig
import types
from typing import Any

from ckpt.capture import slots
from ckpt.errors import ReplayDivergedError, UnsupportedCodeError

_WRAPPERS = ("tqdm", "rich", "alive_progress", "progressbar")
"""Packages whose iterators keep nothing of their own that a resumed job could miss: their frames are passed over."""

_TRANSPARENT_MODULES = ("contextlib", "functools")
"""Standard modules whose frames only pass a call on."""

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@functools.cache
def _library_folders() -> tuple[str, ...]:
    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    # Not in sysconfig: the user's own packages, and those of a distribution (Debian's dist-packages).
    found |= {site.getusersitepackages(), *site.getsitepackages()}
    found |= {path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")}
    return tuple({os.path.realpath(path) + os.sep for path in found})


@functools.lru_cache(maxsize=1024)
def _role(filename: str, home: str) -> str:
    """"user" (captured), "passed over", or "library" (keeps state that cannot be captured).

    By file name: code objects of two files may compare equal.
    """
    file = os.path.realpath(filename)
    if file.startswith(_HERE):
        return "passed over"
    if home and file.startswith(home):
        return "user"
    for folder in sorted(_library_folders(), key=len, reverse=True):
        if file.startswith(folder):
            package = file[len(folder) :].split(os.sep)[0].removesuffix(".py")
            if package == "site-packages" or package == "dist-packages":
                package = file[len(folder) :].split(os.sep)[1]
            return "passed over" if package in _WRAPPERS + _TRANSPARENT_MODULES else "library"
    return "user"


def is_passed_over(code: types.CodeType) -> bool:
    """Whether it is code of ours, of a progress bar, or of a module that only passes calls on."""
    return _role(code.co_filename, "") == "passed over"


def is_library(code: types.CodeType, home: str, *, but: tuple[str, ...]) -> bool:
    """Whether it is code of an installed package, or of the standard library without the packages ``but``."""
    if _role(code.co_filename, home) != "library":
        return False
    return os.path.basename(os.path.dirname(os.path.realpath(code.co_filename))) not in but


@functools.lru_cache(maxsize=64)
def home_of(filename: str) -> str:
    """The folder whose files count as the user's own although they are installed: the package that holds the job."""
    file = os.path.realpath(filename)
    for folder in sorted(_library_folders(), key=len, reverse=True):
        if file.startswith(folder):
            inside = file[len(folder) :].split(os.sep)
            return folder + inside[0] + (os.sep if len(inside) > 1 else "")
    return ""


def user_frames(innermost: types.FrameType | None, caller_of_job: types.FrameType) -> list[types.FrameType]:
    """The captured frames from the job (whose caller is given) down to ``innermost``, outermost first.

    UnsupportedCodeError when ``innermost`` does not belong to a call of the job, or when a library function stands
    between them: its variables, and what it keeps in C, could not be brought back.
    """
    found: list[types.FrameType] = []
    frame = innermost
    while frame is not None and frame is not caller_of_job:
        found.append(frame)
        frame = frame.f_back
    if frame is not None and found:
        home = home_of(found[-1].f_code.co_filename)
        return [one for one in reversed(found) if _belongs(one, home)]
    raise UnsupportedCodeError(
        "a marked loop is advanced outside the call of its job",
        fix="iterate it in the job or in a function that the job calls (or awaits) itself: in the same thread, and in the "
        "same task, not in one made by gather, create_task or wait_for",
    )


def _belongs(frame: types.FrameType, home: str) -> bool:
    role = _role(frame.f_code.co_filename, home)
    if role == "library":
        raise UnsupportedCodeError(
            f"a marked loop is called back from {frame.f_code.co_qualname}, which cannot be resumed in its middle",
            where=f"{frame.f_code.co_filename}:{frame.f_lineno}",
            fix="mark a loop of your own around that call instead, or make the call a ckpt.step",
        )
    return role == "user"


def user_frame(innermost: types.FrameType | None) -> types.FrameType | None:
    """The first frame from ``innermost`` outwards that is not passed over."""
    frame = innermost
    while frame is not None and _role(frame.f_code.co_filename, "") == "passed over":
        frame = frame.f_back
    return frame


def left_by_exception(frame: types.FrameType) -> bool:
    """Whether a ``for`` statement in ``frame`` that is giving up its iterator just now does so because of an exception.

    ``break`` and ``return`` drop the iterator with POP_TOP; an exception drops it while the instruction that raised is
    still the current one (seen on CPython 3.11 to 3.13; the interpreter tells a generator nothing about it).
    """
    import dis

    code = frame.f_code.co_code
    return code[frame.f_lasti] != dis.opmap["POP_TOP"]


def read_variables(frame: types.FrameType) -> tuple[dict[str, Any], list[str]]:
    """(bound variables, names of unbound ones)."""
    view = frame.f_locals
    values = {name: value for name, value in view.items() if not name.startswith(".")}
    if not slots.WRITE_THROUGH:
        # Before 3.13 the frame keeps this dict: emptied, or it would keep alive what the job drops.
        view.clear()
    names = slots.slot_names(frame.f_code)
    unbound = [name for name in names if name not in values and not name.startswith(".")]
    return values, unbound


def write_variables(frame: types.FrameType, values: dict[str, Any], unbound: list[str]) -> None:
    """Set the variables of a running frame. ReplayDivergedError if it has no variable of that name."""
    known = slots.slot_names(frame.f_code)
    strange = [name for name in values if name not in known]
    if strange:
        raise ReplayDivergedError(
            f"{frame.f_code.co_qualname} has no variable {strange[0]!r} any more",
            where=f"{frame.f_code.co_filename}:{frame.f_lineno}",
            fix="run the version of the code that made the checkpoint, or start afresh: f.options(fresh=True)(...)",
        )
    view = frame.f_locals
    bound_now = [name for name in unbound if name in view]
    for name, value in values.items():
        view[name] = value
    if not slots.WRITE_THROUGH:
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
        view.clear()
    # Not by deleting from f_locals: 3.12 binds the variable to None instead, and 3.13 refuses.
    for name in bound_now:
        slots.unbind(frame, name)


def caller(depth: int) -> types.FrameType | None:
    """The frame ``depth`` calls above the caller of this function, or None."""
    try:
        return sys._getframe(depth + 1)
    except ValueError:
        return None
