"""One state: what is read at a safe point, and how it is written back when the re-run code gets there again."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt.capture import frames
from ckpt.capture.arrays import parts_by_name
from ckpt.capture.explain import path_to
from ckpt.capture.graph import Graph
from ckpt.capture.held import EXCEPTION, Path, first_by_value, is_spent, kept_by_walking, resolve, text_of
from ckpt.capture.operands import led_to, on_the_stack
from ckpt.capture.randomness import read_random_state, write_random_state
from ckpt.capture.rebuild import Scene, find_global
from ckpt.capture.refused import explained, place, torn_by_expression, torn_by_loop
from ckpt.capture.sharing import Variables, shared_with
from ckpt.capture.slots import operands, slot_names
from ckpt.capture.visible import Visible, contents_of, has_state_dict, kind_of, refill
from ckpt.errors import CkptError, ReplayDivergedError, UncapturableError


@dataclass(slots=True)
class Captured:
    """A state as it was read: a pickle skeleton, live buffers that must be copied before the job goes on, and names."""

    skeleton: bytes
    buffers: list[Any]
    captured: dict[str, int]
    remade: list[str]
    parts: dict[str, int] = field(default_factory=dict)
    """Variables that are one buffer, counted from 1."""


@dataclass(slots=True)
class Extras:
    """What loops and namespaces add to a state, pickled in the same graph as the variables; and what stays out of it."""

    values: dict[str, Any] = field(default_factory=dict)
    remade: list[Any] = field(default_factory=list)


Held = list[tuple[Path, ...]]
"""Per frame, where the objects are that the interpreter itself holds: they are restored in place."""


class StateCapture:
    """Captures and restores the states of one run. Owns the promise that nothing is dropped silently."""

    def __init__(self, graph: Graph, visible: Visible, recreate: tuple[str, ...], remade_types: tuple[type, ...]) -> None:
        self._graph = graph
        self._visible = visible
        self._recreate = recreate
        self._remade_types = remade_types
        self._in_place: set[tuple[types.CodeType, str]] = set()

    # -- capture --------------------------------------------------------------------------------------------

    def capture(self, chain: list[types.FrameType], extras: Extras, held: Held) -> Captured:
        """Read the variables of ``chain``, the visible objects, the generators and ``extras`` into one pickle graph.

        UncapturableError names the variable that cannot be saved and the line to add.
        """
        scene = self._scene(chain, extras, held)
        try:
            return self._capture(scene, extras)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a class raises when pickled becomes a named refusal
            failure = error
        if self._switch_to_in_place(scene):
            return self.capture(chain, extras, held)
        raise self._named(scene, extras, failure) from failure

    def _scene(self, chain: list[types.FrameType], extras: Extras, held: Held) -> Scene:
        scene = self._seen(chain, extras.remade)
        for number, paths in enumerate(held):
            for path in paths:
                value = resolve(path, scene.locals[number])
                kind = kind_of(value) if not self._graph.goes_by_name(value) else None
                if kind is not None and self._visible.number(value) is None and id(value) not in scene.recreated:
                    scene.held.setdefault(id(value), (number, path, kind, value))
        for frame in chain:
            _find_globals(frame, scene, self._graph)
            if frame.f_code.co_flags & _GENERATOR_FLAGS:
                scene.remade |= _generators_of(frame, scene)
        self._refuse_walked(scene, held)
        for number, frame in enumerate(chain):
            waits = [sys.exception()] if EXCEPTION in held[number] else []
            stack = on_the_stack(frame) if number + 1 < len(chain) else []
            for one in led_to(stack + waits, lambda value: self._stays(value, scene)):
                scene.on_stack[id(one)] = (number, one)
        return scene

    def _seen(self, chain: list[types.FrameType], remade: list[Any]) -> Scene:
        scene = Scene(chain, [frames.read_variables(frame)[0] for frame in chain])
        scene.remade = {id(one) for one in remade}
        for name in self._recreate:
            self._find_recreated(name, scene)
        return scene

    def _stays(self, value: Any, scene: Scene) -> bool:
        """Whether it is the same object after a resume, with the contents that it has now."""
        known = (scene.held, scene.remade, scene.recreated, scene.globals)
        if self._graph.goes_by_name(value) or self._visible.number(value) is not None:
            return True
        return any(id(value) in one for one in known)

    def _refuse_walked(self, scene: Scene, held: Held) -> None:
        """The iterator of an unmarked loop, and a function written in C, go on with the objects that the re-run code
        made; those that come back as others, or are used up by it, would be torn from the variables that name them."""

        def in_place(value: Any) -> bool:
            return self._stays(value, scene)

        for number, path in ((number, path) for number, paths in enumerate(held) for path in paths):
            kind, how = path[-1] if len(path) > 1 else ("", "")
            if kind not in ("walked", "given") or (kind == "given" and operands(scene.frames[number]) is not None):
                continue
            value = resolve(path, scene.locals[number])
            if path[0] in self._recreate or id(value) in scene.remade or id(value) in scene.recreated:
                continue
            if how == "rebound":
                scene.held.pop(id(value), None)
            gone = is_spent(value) or how == "emptied"
            culprit = value if gone else first_by_value(kept_by_walking(value, how), in_place)
            if culprit is not None:
                where = f"{place(scene.frames[number])}, variable {text_of(path)}"
                raise torn_by_loop(culprit, where) if kind == "walked" else torn_by_expression(culprit, where)

    def _find_recreated(self, path: str, scene: Scene) -> None:
        first, *rest = path.split(".")
        for variables in reversed(scene.locals):
            if first not in variables:
                continue
            value = variables[first]
            for name in rest:
                value = getattr(value, name, None)
            if value is not None:
                scene.recreated[id(value)] = path
            return

    def by_value(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Those of ``variables`` that come back as other objects than the ones that the code makes again."""
        return {name: value for name, value in variables.items() if self._visible.number(value) is None}

    def shared_with(
        self, iterable: Any, chain: list[types.FrameType], remade: list[Any], more: Callable[[], list[tuple[str, Any]]]
    ) -> str | None:
        """See ``sharing``; ``remade`` are the iterables that the code makes again, ``iterable`` among them, and ``more``
        gives what comes back besides variables."""
        left = {id(one) for frame in chain for one in frame.f_globals.values()} | {id(one) for one in remade}

        def stays(value: Any) -> bool:
            return id(value) in left or self._visible.number(value) is not None or self._graph.goes_by_name(value)

        def read() -> Variables:
            scene = self._seen(chain, remade)
            named = [
                (name, value, 0 if name in (*frame.f_code.co_cellvars, *frame.f_code.co_freevars) else 1)
                for frame, variables in zip(chain, scene.locals, strict=True)
                for name, value in variables.items()
            ] + [(name, value, 0) for name, value in more()]
            left.update(scene.recreated, (id(value) for name, value, _ in named if self._is_remade(name, value, scene)))
            kept = [one for one in named if not stays(one[1])]
            return Variables(*map(list, zip(*kept, strict=True))) if kept else Variables([], [], [])

        return shared_with(iterable, read, stays)

    def _is_remade(self, name: str, value: Any, scene: Scene) -> bool:
        kind = type(value)
        return (
            name in self._recreate
            or id(value) in scene.remade
            or isinstance(value, self._remade_types)
            or kind.__module__.partition(".")[0] == "tqdm"
        )

    def _capture(self, scene: Scene, extras: Extras) -> Captured:
        captured: dict[str, int] = {}
        named: dict[str, Any] = {}
        remade: list[str] = []
        saved_frames = []
        for frame, variables in zip(scene.frames, scene.locals, strict=True):
            function = frame.f_code.co_qualname
            values: dict[str, Any] = {}
            in_place: dict[str, Any] = {}
            for name, value in variables.items():
                if self._is_remade(name, value, scene):
                    remade.append(f"{function}.{name}")
                    continue
                named[f"{function}.{name}"] = value
                captured[f"{function}.{name}"] = int(value.nbytes) if hasattr(type(value), "nbytes") else -1
                if (frame.f_code, name) in self._in_place:
                    in_place[name] = value.state_dict()
                else:
                    values[name] = value
            unbound = [name for name in _variable_names(frame) if name not in variables]
            saved_frames.append([function, values, in_place, unbound])
        state = {
            "frames": saved_frames,
            "visible": [self._visible_types(), self._visible.contents()],
            "held": [
                [number, path, kind, contents_of(value, kind)] for number, path, kind, value in scene.held.values()
            ],
            "random": read_random_state(),
            "extras": extras.values,
        }
        while True:
            used = set(scene.used_globals)
            state["globals"] = [
                [module, name, kind, contents_of(value, kind)]
                for module, name, kind, value in map(scene.globals.__getitem__, used)
                if kind is not None
            ]
            skeleton, buffers = self._graph.dump(state, scene)
            if scene.used_globals == used:
                for number, value in scene.torn[:1]:
                    raise torn_by_expression(value, place(scene.frames[number]))
                return Captured(skeleton, buffers, captured, remade, parts_by_name(named, buffers))

    def _visible_types(self) -> list[str]:
        return [type(value).__qualname__ for value, _ in self._visible.objects]

    def _switch_to_in_place(self, scene: Scene) -> bool:
        """Variables that cannot be pickled but know ``state_dict`` are saved by it, onto the object made again."""
        found = False
        for frame, variables in zip(scene.frames, scene.locals, strict=True):
            for name, value in variables.items():
                if (frame.f_code, name) in self._in_place or self._is_remade(name, value, scene):
                    continue
                if has_state_dict(value) and self._fails(value, scene):
                    self._in_place.add((frame.f_code, name))
                    found = True
        return found

    def _fails(self, value: Any, scene: Scene) -> bool:
        try:
            self._graph.dump(value, scene)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - whatever a class raises when pickled
            return True
        return False

    def _named(self, scene: Scene, extras: Extras, failure: Exception) -> CkptError:
        """The refusal that names the part of the state which cannot be saved."""

        def try_pickle(value: Any) -> None:
            self._graph.dump(value, scene)

        culprit = self._graph.take_refused()
        for where, name, value in self._suspects(scene, extras):
            if self._fails(value, scene):
                return explained(value, name, try_pickle, where)
        if isinstance(failure, UncapturableError):
            # No variable fails by itself where two of them share what they may not.
            paths = (where + path for where, name, value in self._suspects(scene, extras) if (path := path_to(culprit, value, name)))
            failure.where = failure.where or next(paths, "")
            return failure
        return UncapturableError(f"the state cannot be saved ({type(failure).__name__}: {failure})")

    def _suspects(self, scene: Scene, extras: Extras) -> Iterator[tuple[str, str, Any]]:
        """(where, name, value) of everything that a state is made of."""
        for frame, variables in zip(scene.frames, scene.locals, strict=True):
            where = f"{place(frame)}, variable "
            for name, value in variables.items():
                if not self._is_remade(name, value, scene):
                    yield where, name, value
        for number, (value, kind) in enumerate(self._visible.objects):
            yield "argument ", self._visible.name(number), contents_of(value, kind)
        for number, path, kind, value in scene.held.values():
            yield f"{scene.frames[number].f_code.co_qualname}, variable ", str(path[0]), contents_of(value, kind)
        for name, value in extras.values.items():
            yield "", name, value

    # -- restore --------------------------------------------------------------------------------------------

    def restore(self, chain: list[types.FrameType], parts: list[Any], *, unbind: bool) -> Mapping[str, Any]:
        """Write a saved state back into the running frames and visible objects; returns the extras.

        ``unbind`` also unbinds variables that were unbound: only with unchanged code, because the compiler leaves out
        checks for variables that it knows to be bound.
        """
        scene = Scene(chain, [frames.read_variables(frame)[0] for frame in chain])
        state = self._graph.load(parts[0], list(parts[1:]), scene)
        self._check(chain, state)
        self._visible.refill(state["visible"][1])
        # All are found before any is refilled: a path may lead through another one.
        found = [(resolve(path, scene.locals[number]), kind, contents) for number, path, kind, contents in state["held"]]
        found += [(find_global(module, name), kind, contents) for module, name, kind, contents in state["globals"]]
        for value, kind, contents in found:
            refill(value, kind, contents)
        for frame, (_, values, in_place, unbound) in zip(chain, state["frames"], strict=True):
            made = frames.read_variables(frame)[0] if in_place else {}
            for name, contents in in_place.items():
                if not has_state_dict(made.get(name)):
                    raise ReplayDivergedError(
                        f"variable {name!r} was saved by its state_dict, but the code has not made it again",
                        fix="make it before the loop, in the same function",
                    )
                made[name].load_state_dict(contents)
            frames.write_variables(frame, values, unbound if unbind else [])
        write_random_state(state["random"])
        extras: Mapping[str, Any] = state["extras"]
        return extras

    def _check(self, chain: list[types.FrameType], state: dict[str, Any]) -> None:
        now = [frame.f_code.co_qualname for frame in chain]
        then = [name for name, *_ in state["frames"]]
        if now != then:
            raise ReplayDivergedError(
                f"the loop was reached through {' > '.join(then)}, and is now reached through {' > '.join(now)}",
                fix="run the version of the code that made the checkpoint, or start afresh: f.options(fresh=True)(...)",
            )
        if state["visible"][0] != self._visible_types():
            raise ReplayDivergedError(
                "the arguments do not have the structure that they had when the run began",
                fix="call the job with the same arguments, or start afresh: f.options(fresh=True)(...)",
            )

    def capture_entry(self) -> Captured:
        """What has to be as it was when the job is run again from its top."""
        skeleton, buffers = self._graph.dump({"random": read_random_state()}, Scene([], []))
        return Captured(skeleton, buffers, {}, [])

    def load_plain(self, parts: list[Any]) -> Any:
        """A state as it was saved, tied to no frame: for what belongs to no variable."""
        return self._graph.load(parts[0], list(parts[1:]), Scene([], []))

    # -- results --------------------------------------------------------------------------------------------

    def capture_result(self, result: Any) -> Captured:
        """The job's result together with what the caller can see, and the generators, at its end."""
        state = {
            "result": result,
            "visible": [self._visible_types(), self._visible.contents()],
            "random": read_random_state(),
        }
        skeleton, buffers = self._graph.dump(state, Scene([], []))
        return Captured(skeleton, buffers, {}, [])

    def restore_result(self, parts: list[Any]) -> Any:
        state = self._graph.load(parts[0], list(parts[1:]), Scene([], []))
        if state["visible"][0] == self._visible_types():
            self._visible.refill(state["visible"][1])
        write_random_state(state["random"])
        return state["result"]


_GENERATOR_FLAGS = 0x20 | 0x80 | 0x200
"""CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR."""


def _variable_names(frame: types.FrameType) -> list[str]:
    return [name for name in slot_names(frame.f_code) if not name.startswith(".")]


def _generators_of(frame: types.FrameType, scene: Scene) -> set[int]:
    """Ids of generators and coroutines in variables that run in ``frame``."""
    found = set()
    for variables in scene.locals:
        for value in variables.values():
            own = getattr(value, "gi_frame" if isinstance(value, types.GeneratorType) else "cr_frame", None)
            if isinstance(value, types.GeneratorType | types.CoroutineType) and own is frame:
                found.add(id(value))
    return found


def _find_globals(frame: types.FrameType, scene: Scene, graph: Graph) -> None:
    """Module-level objects of the frame's module that may be known under a second name in the state."""
    module = frame.f_globals.get("__name__")
    if not isinstance(module, str) or vars(sys.modules.get(module, _NO_MODULE)) is not frame.f_globals:
        return
    variables = {id(value) for one in scene.locals for value in one.values()}
    for name, value in frame.f_globals.items():
        if type(value) in _BY_NAME_ANYWAY:
            continue
        kind = kind_of(value)
        # Plain containers cost a question for every object of the state: only where a variable is the very object.
        wanted = id(value) in variables if type(value) in _CONTAINERS else kind is not None or type(value) is object
        if not wanted or name.startswith("__") or graph.goes_by_name(value):
            continue
        if graph.visible.number(value) is None:
            scene.globals[id(value)] = (module, name, kind, value)


_NO_MODULE = types.ModuleType("none")
_CONTAINERS = (list, dict, set, bytearray)
_BY_NAME_ANYWAY = {types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type, str, int, float, bool, tuple}
