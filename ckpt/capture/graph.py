"""One state, one pickle graph: what is saved by value, by place or by reference, and what is refused.

Everything captured at a safe point (locals of all frames, contents of what the caller sees, loop sources, generators
of random numbers) goes through one pickler, so shared references stay shared. This module decides, object by object:
``Graph.reduce`` on the way out, the functions of ``rebuild`` on the way back.
"""

from __future__ import annotations

import array
import io
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from ckpt.capture import asynchronous, functions, rebuild, slots, tensors
from ckpt.capture.arrays import SharedMemory, is_array_type
from ckpt.capture.rebuild import Scene
from ckpt.capture.visible import Visible, kind_of
from ckpt.codecs import pickling
from ckpt.errors import CkptError, ReplayDivergedError, UncapturableError


class Graph:
    """Saves and loads the states of one run. Holds what has to be remembered between its states."""

    def __init__(self, visible: Visible, special: Callable[[Any], Any]) -> None:
        """``special(type)`` gives a reduction function for types that only the layers above know, or None."""
        self.visible = visible
        self._special = special
        self._memory = SharedMemory(self._visible_root)
        self._storages = tensors.SharedStorages()
        self._handlers: dict[type, Callable[[Any], Any] | None] = {}
        self._scene: Scene | None = None
        self._by_value = False
        self._filled_by_function: set[int] = set()

    # -- saving ---------------------------------------------------------------------------------------------

    def goes_by_name(self, value: Any) -> bool:
        """Whether the layers above look the value up again: it is the same object after a resume."""
        return self._special(type(value)) is not None and kind_of(value) is not None

    def take_refused(self) -> Any:
        """The array that the last ``dump`` failed over because of its memory; None if it was something else."""
        refused, self._memory.refused = self._memory.refused, None
        return refused

    def dump(self, value: object, scene: Scene) -> tuple[bytes, list[Any]]:
        """(skeleton, live buffers). Raises whatever pickling raises; the caller finds the variable's name."""
        self._scene = scene
        self._handlers = {kind: self._visible_or_value for kind in self.visible.types}
        for *_, one in (*scene.held.values(), *scene.globals.values()):
            self._handlers[type(one)] = self._visible_or_value
        self._memory.foreign = {
            id(value) for one in scene.locals for value in one.values() if isinstance(value, (bytearray, array.array))
        }
        needs_ids = not self._handlers.keys().isdisjoint((list, dict, set, bytearray))
        persistent = self._persistent_id if needs_ids else None
        met = scene.torn_by if scene.on_stack else None
        try:
            while True:
                self._memory.begin()
                self._storages.begin()
                self._filled_by_function.clear()
                try:
                    dumped = pickling.dump(value, self.reduce, persistent, by_value=self._by_value, met=met)
                except pickling.NeedsByValue:
                    self._by_value = True
                    continue
                of_tensors = self._storages.found_sharing(self._memory.met)
                if not self._memory.found_sharing() and not of_tensors:
                    return dumped
        finally:
            self._memory.end()
            self._storages.end()
            self._scene = None

    def _persistent_id(self, value: Any) -> Any:
        return self._place(value)

    def _place(self, value: Any) -> Any:
        """Where an object is found again that is not saved by value: a number, (frame, path) or (module, name)."""
        number = self.visible.number(value)
        if number is not None or self._scene is None:
            return number
        held = self._scene.held.get(id(value))
        if held is not None:
            return held[:2]
        known = self._scene.globals.get(id(value))
        if known is not None:
            self._scene.used_globals.add(id(value))
            return known[:2]
        return None

    def reduce(self, value: Any) -> Any:
        kind = type(value)
        try:
            handler = self._handlers[kind]
        except KeyError:
            handler = self._handlers[kind] = self._handler_for(kind)
        return NotImplemented if handler is None else handler(value)

    def _handler_for(self, kind: type) -> Callable[[Any], Any] | None:
        special: Callable[[Any], Any] | None = self._special(kind)
        if special is not None:
            return special
        of_its_own = asynchronous.handler_for(kind) or rebuild.handler_for(kind)
        if of_its_own is not None:
            return self._recreated_or(of_its_own)
        if issubclass(kind, type):
            return self._class
        if is_array_type(kind):
            if kind.__name__ == "memmap":
                return rebuild.reduce_memmap
            return self._memory.reduce if kind.__name__ == "ndarray" else self._memory.refuse_shared
        if tensors.is_tensor_type(kind):
            return self._storages.reduce
        if tensors.is_storage_type(kind):
            return self._storages.reduce_storage
        for types_, handler in (
            ((BaseException,), rebuild.reduce_exception),
            ((types.FunctionType,), self._function),
            ((types.CellType,), self._cell),
            ((types.ModuleType,), rebuild.reduce_module),
            ((types.GeneratorType,), self._generator),
            ((io.IOBase,), self._file),
            ((array.array,), _typed_array),
            ((rebuild.LOCK,), rebuild.reduce_lock),
            ((rebuild.RLOCK,), rebuild.reduce_rlock),
            ((types.CoroutineType,), asynchronous.reduce_coroutine),
            ((types.AsyncGeneratorType,), asynchronous.reduce_async_generator),
        ):
            if issubclass(kind, types_):
                return self._recreated_or(handler)
        return self._recreated_or(None) if self._scene and self._scene.recreated else None

    def _recreated_or(self, handler: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
        def reduce(value: Any) -> Any:
            assert self._scene is not None
            path = self._scene.recreated.get(id(value))
            if path is not None:
                return rebuild.find_recreated, (path,)
            return NotImplemented if handler is None else handler(value)

        return reduce

    def _visible_or_value(self, value: Any) -> Any:
        place = self._place(value)
        if place is not None:
            return rebuild.find_persistent, (place,)
        handler = self._handler_for(type(value))
        return NotImplemented if handler is None else handler(value)

    def _visible_root(self, root: Any) -> Any:
        number = self.visible.root_number(root)
        if number is not None:
            return rebuild.VisibleMemory(number)
        place = None if self._scene is None else self._place(root)
        return None if place is None else rebuild.VisibleMemory(place)

    def _class(self, value: type) -> Any:
        if functions.is_importable(value):
            return NotImplemented
        assert self._scene is not None
        variable = self._scene.variable_of(value)
        if variable is not None:
            return rebuild.find_variable, variable
        if "<locals>" in value.__qualname__:
            raise UncapturableError(
                f"an object of class {value.__qualname__}, which is defined inside a function",
                fix="move the class to the top of its module",
            )
        return self._reduce_by_value(value)

    def _reduce_by_value(self, value: Any) -> Any:
        if not self._by_value:
            raise pickling.NeedsByValue
        return pickling.reduce_by_value(value)

    def _function(self, value: types.FunctionType) -> Any:
        if functions.is_importable(value):
            return NotImplemented
        assert self._scene is not None
        address = functions.address_of(value, self._scene.frames)
        if address is None:
            return self._foreign_function(value)
        cells = value.__closure__ or ()
        # The contents of cells that belong to no captured frame go into the *state* of the function, which is pickled
        # after the function has its place in the memo: a closure may contain itself.
        own = [cell for cell in cells if self._home(cell) is None]
        contents = [(cell, cell.cell_contents) for cell in own if rebuild.is_filled(cell)]
        self._filled_by_function.update(map(id, own))
        state = {**functions.attributes_of(value), "cells": contents}
        return rebuild.make_function, (address, value.__name__, cells), state, None, None, rebuild.fill_function

    def _foreign_function(self, value: types.FunctionType) -> Any:
        """A lambda of a module: by the name that holds it, or its code on the module's own globals; else cloudpickle."""
        module = str(value.__globals__.get("__name__", ""))
        if module not in sys.modules or vars(sys.modules[module]) is not value.__globals__:
            return self._reduce_by_value(value)
        for name, one in value.__globals__.items():
            if one is value:
                return rebuild.find_global, (module, name)
        if not self._by_value:
            raise pickling.NeedsByValue
        state = {**functions.attributes_of(value), "cells": []}
        made = (value.__code__, module, value.__name__, value.__closure__ or ())
        return rebuild.make_module_function, made, state, None, None, rebuild.fill_function

    def _home(self, cell: types.CellType) -> tuple[int, str] | None:
        assert self._scene is not None
        for number, frame in enumerate(self._scene.frames):
            name = slots.cell_name(frame, cell)
            if name is not None:
                return number, name
        return None

    def _cell(self, cell: types.CellType) -> Any:
        home = self._home(cell)
        if home is not None:
            return rebuild.find_cell, home
        if id(cell) in self._filled_by_function or not rebuild.is_filled(cell):
            return rebuild.make_cell, ()
        return rebuild.make_cell, (), cell.cell_contents, None, None, rebuild.fill_cell

    def _generator(self, value: types.GeneratorType[Any, Any, Any]) -> Any:
        if value.gi_frame is None:
            return rebuild.make_finished_generator, ()
        assert self._scene is not None
        if id(value) in self._scene.remade:
            raise UncapturableError(
                "a generator that a marked loop consumes is also held by another object",
                fix="keep it in a plain variable of the job, or make it a list",
            )
        return rebuild.refuse_running_code(value)

    def _file(self, value: Any) -> Any:
        for name in ("stdin", "stdout", "stderr"):
            if value is getattr(sys, name) or value is getattr(sys, f"__{name}__"):
                return rebuild.find_stream, (name,)
        if isinstance(value, (io.StringIO, io.BytesIO)):
            return NotImplemented
        if value.closed:
            return rebuild.make_closed_file, ()
        path = getattr(value, "name", None)
        variable = self._scene.variable_of(value) if self._scene is not None else None
        if not isinstance(path, str) or not os.path.isfile(path):
            raise UncapturableError(f"an open stream that is no plain file ({path!r})", fix="open it inside a ckpt.step")
        if value.writable():
            raise UncapturableError(
                f"the file {path!r} is open for writing; what was written after the checkpoint would be written twice",
                fix="write with ckpt.output(path), which is cut back on a resume, or one whole file per item in a ckpt.step",
            )
        if variable is None and type(value) not in (io.BufferedReader, io.FileIO):
            raise UncapturableError(
                f"the file {path!r} is held by another object, and how it was opened cannot be told from it",
                fix="keep the file in a variable of the job, too",
            )
        opening = (os.path.abspath(path), getattr(value, "mode", None))
        return rebuild.find_file, (variable, opening, rebuild.position_of(value))

    # -- loading --------------------------------------------------------------------------------------------

    def load(self, skeleton: Any, buffers: list[Any], scene: Scene) -> Any:
        """The value again, tied to the frames and visible objects of this process. The MAC was verified before."""
        try:
            with rebuild.restoring(scene, self.visible):
                return pickling.load(skeleton, buffers, rebuild.find_persistent)
        except CkptError:
            raise
        except Exception as error:
            raise ReplayDivergedError(
                f"the saved state does not fit the program any more ({type(error).__name__}: {error})",
                fix="run the version of the code that made the checkpoint, or start afresh: f.options(fresh=True)(...)",
            ) from error


def _typed_array(value: array.array[Any]) -> Any:
    """Its own reduction, but for the copy of its contents in it."""
    if type(value) is not array.array or value.itemsize * len(value) < pickling.IN_BAND_LIMIT:
        return NotImplemented
    make, described = tuple(array.array(value.typecode).__reduce_ex__(5))[:2]
    return make, (*described[:-1], pickling.OutOfBandBytes(value))
