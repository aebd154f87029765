"""The way back out of a state: functions that a pickle calls to find or make what was not saved by value.

They look around in the ``Scene`` of the state that this thread is restoring. Their twins, which decide what is saved in
which way, are in ``graph``; what both need to know of files and locks is here. Stored pickles name these functions by
module and name: both are part of the on-disk format, and may be added to but not renamed.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ckpt.capture import functions, slots
from ckpt.capture.arrays import flat_memory, root_of
from ckpt.capture.held import Path, resolve
from ckpt.capture.randomness import process_wide
from ckpt.capture.visible import Visible
from ckpt.errors import ReplayDivergedError, UncapturableError


@dataclass(slots=True)
class Scene:
    """What is around a state while it is saved or loaded.

    ``frames`` are the captured frames, outermost first, ``locals`` their variables; ``remade`` holds the ids of
    objects that the re-run code makes again (iterables of marked loops, generators that are being run), ``held`` says of
    objects that the interpreter holds on to where they are found (frame number, path), how they are refilled, and what. ``globals`` are module-level objects that variables may be other names of
    (module, name, kind, object), and ``used_globals`` those that the state turned out to refer to. ``on_stack`` are the
    objects that can change which the interpreter's stack leads to (frame number, object), and ``torn`` those of them that
    the last pickle holds by value.
    """

    frames: list[types.FrameType]
    locals: list[dict[str, Any]]
    remade: set[int] = field(default_factory=set)
    held: dict[int, tuple[int, Path, str, Any]] = field(default_factory=dict)
    recreated: dict[int, str] = field(default_factory=dict)
    globals: dict[int, tuple[str, str, str | None, Any]] = field(default_factory=dict)
    used_globals: set[int] = field(default_factory=set)
    on_stack: dict[int, tuple[int, Any]] = field(default_factory=dict)
    torn: list[tuple[int, Any]] = field(default_factory=list)

    def torn_by(self, met: Iterable[int]) -> None:
        """Note which objects of ``on_stack`` have the ids ``met``."""
        self.torn = [self.on_stack[one] for one in self.on_stack.keys() & met]

    def variable_of(self, value: Any) -> tuple[int, str] | None:
        """(frame number, name) of a variable that holds this very object."""
        for number in range(len(self.locals) - 1, -1, -1):
            for name, one in self.locals[number].items():
                if one is value:
                    return number, name
        return None


_restoring = threading.local()


@contextmanager
def restoring(scene: Scene, visible: Visible) -> Iterator[None]:
    """Inside, this thread's ``find_*`` functions look around in ``scene`` and ``visible``."""
    previous = getattr(_restoring, "state", None)
    _restoring.state = (scene, visible)
    try:
        yield
    finally:
        _restoring.state = previous


LOCK = type(threading.Lock())
RLOCK = type(threading.RLock())


def _scene() -> Scene:
    scene: Scene = _restoring.state[0]
    return scene


class VisibleMemory:
    """The memory under an array that is found again at a place, and not saved by value."""

    __slots__ = ("place",)

    def __init__(self, place: Any) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return find_memory, (self.place,)


def find_persistent(pid: Any) -> Any:
    if not isinstance(pid, tuple):
        return _find_visible(pid)
    return find_global(*pid) if isinstance(pid[0], str) else _find_held(*pid)


def find_global(module: str, name: str) -> Any:
    """The module-level object of that name."""
    return vars(sys.modules[module])[name]


def _find_held(number: int, path: Path) -> Any:
    value = resolve(path, _scene().locals[number])
    if value is None:
        raise LookupError(f"{path[0]} does not lead to the object any more")
    return value


def _find_visible(number: int) -> Any:
    visible: Visible = _restoring.state[1]
    return visible.objects[number][0]


def find_memory(place: Any) -> Any:
    return flat_memory(root_of(find_persistent(place)))


def find_variable(number: int, name: str) -> Any:
    return _scene().locals[number][name]


def find_recreated(path: str) -> Any:
    first, *rest = path.split(".")
    for variables in reversed(_scene().locals):
        if first in variables:
            value = variables[first]
            for name in rest:
                value = getattr(value, name)
            return value
    raise ReplayDivergedError(f"recreate names {path!r}, but the code has not made it again", fix="make it before the loop")


def find_cell(number: int, name: str) -> types.CellType:
    cell = slots.cell_of(_scene().frames[number], name)
    if cell is None:
        raise LookupError(f"variable {name} is no longer shared with an inner function")
    return cell


def make_cell() -> types.CellType:
    return types.CellType()


def fill_cell(cell: types.CellType, contents: Any) -> None:
    cell.cell_contents = contents


def is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises when empty
    except ValueError:
        return False
    return True


def make_function(address: Any, name: str, cells: tuple[types.CellType, ...]) -> types.FunctionType:
    code, globals_ = functions.find_code(address, _scene().frames)
    return types.FunctionType(code, globals_, name, None, cells)


def make_module_function(
    code: types.CodeType, module: str, name: str, cells: tuple[types.CellType, ...]
) -> types.FunctionType:
    """A function on the module's own globals, never on a copy of them."""
    return types.FunctionType(code, vars(sys.modules[module]), name, None, cells)


def fill_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    functions.set_attributes(function, state)
    for cell, contents in state["cells"]:
        cell.cell_contents = contents


def reduce_exception(value: BaseException) -> Any:
    """Without calling ``__init__`` again, which may want other arguments; with cause and context."""
    kind = type(value)
    if kind.__reduce__ is not BaseException.__reduce__ and not issubclass(kind, OSError):
        return NotImplemented
    state = [dict(vars(value)), value.__cause__, value.__context__, value.__suppress_context__]
    return make_exception, (kind, value.args), state, None, None, fill_exception


def make_exception(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def fill_exception(error: BaseException, state: list[Any]) -> None:
    attributes, error.__cause__, error.__context__, error.__suppress_context__ = state
    vars(error).update(attributes)


def reduce_module(value: types.ModuleType) -> Any:
    if sys.modules.get(value.__name__) is not value:
        return NotImplemented
    return importlib.import_module, (value.__name__,)


def refuse_running_code(value: Any) -> Any:
    raise UncapturableError(
        f"a {type(value).__name__} in the middle of its work",
        fix="make it the iterable of a marked loop (for x in ckpt.loop(...)), or turn it into a list",
    )


def make_finished_generator() -> Any:
    generator = (None for _ in range(0))
    generator.close()
    return generator


def handler_for(kind: type) -> Callable[[Any], Any] | None:
    """What belongs to the process and not to the state: its generators are found again, its children are refused."""
    if any(type(one) is kind for one in process_wide().values()):
        return reduce_generator_of_process
    return refuse_process if is_process(kind) else None


def reduce_generator_of_process(value: Any) -> Any:
    """A process-wide generator is found again, for its state is set back: a copy would draw the same numbers once more."""
    for name, one in process_wide().items():
        if one is value:
            return find_generator_of_process, (name,)
    return NotImplemented


def find_generator_of_process(name: str) -> Any:
    if name != "random":
        importlib.import_module("torch" if name == "torch" else "numpy.random")
    return process_wide()[name]


def is_process(kind: type) -> bool:
    """Whether objects of this class stand for a child process."""
    named = {(base.__module__, base.__name__) for base in kind.__mro__}
    return not named.isdisjoint({("subprocess", "Popen"), ("multiprocessing.process", "BaseProcess")})


def refuse_process(value: Any) -> Any:
    raise UncapturableError(
        "a child process, which a resumed job has not",
        fix="start it and wait for it inside a ckpt.step, or make it again before the loop and name it in recreate=",
    )


def reduce_lock(value: Any) -> Any:
    if value.locked():
        raise UncapturableError("a lock that is held", fix="release it before the end of the iteration")
    return threading.Lock, ()


def reduce_rlock(value: Any) -> Any:
    if "unlocked" not in repr(value):
        raise UncapturableError("a lock that is held", fix="release it before the end of the iteration")
    return threading.RLock, ()


def position_of(value: Any) -> int:
    try:
        return int(value.tell())
    except OSError as error:
        raise UncapturableError(
            f"the file {value.name!r} is being iterated, so its position is unknown ({error})",
            fix="mark that loop (for line in ckpt.loop(f)), read with f.readline(), or have a function open it and yield what "
            "is read: def rows(path): with open(path) as f: yield from csv.DictReader(f)",
        ) from error


def find_file(variable: tuple[int, str] | None, opening: tuple[str, str | None], position: int) -> Any:
    """The file that the code has opened again in that variable, or a binary file opened here, at the position."""
    path, mode = opening
    file = _scene().locals[variable[0]].get(variable[1]) if variable is not None else None
    again = getattr(file, "name", None)
    if file is None or not isinstance(again, str) or os.path.abspath(again) != path or file.closed:
        if variable is not None or mode is None:
            name = variable[1] if variable is not None else "the file"
            raise ReplayDivergedError(f"{name} was open on {path!r}, but the code has not opened it again", fix="open it before the loop")
        file = open(path, mode)  # noqa: SIM115 - the job's own file, as it was
    file.seek(position)
    return file


def find_stream(name: str) -> Any:
    return getattr(sys, name)


def make_closed_file() -> Any:
    file = open(os.devnull)  # noqa: SIM115 - closed on the next line; a value that only has to be closed
    file.close()
    return file


def reduce_memmap(value: Any) -> Any:
    if value.mode != "r" or value.filename is None:
        if value.mode == "c":
            return NotImplemented
        raise UncapturableError(
            f"the mapped file {value.filename!r} is open for writing",
            fix="map it with mode='r' or 'c', or write inside a ckpt.step",
        )
    return _map_again, (os.path.abspath(value.filename), value.dtype, value.offset, value.shape)


def _map_again(path: str, dtype: Any, offset: int, shape: tuple[int, ...]) -> Any:
    import numpy

    return numpy.memmap(path, dtype, "r", offset, shape)
