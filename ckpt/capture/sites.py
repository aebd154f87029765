"""Where marked loops stand: the name of each place, the same in every attempt, and what may be done there.

Owns ``LoopSite``, the cache from a running frame to its site, and the refusals of code that cannot be resumed exactly.
Guarantees: a site's name (function and ordinal) does not change when comments, docstrings or blank lines do; a second
look at the same place costs two dictionary look-ups; without source the refusals are made from the byte code and both
shortcuts are off.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass

from ckpt.capture import analysis, bytecode, source
from ckpt.capture.held import Path
from ckpt.errors import UnsupportedCodeError


@dataclass(frozen=True, slots=True)
class LoopSite:
    """One call of a marker in the code."""

    qualname: str
    """The function that it stands in (``<module>`` for a script's top level)."""
    ordinal: int
    """Its place among the marked calls of that function, in source order from 0. Negative: the code does not show
    that the call is marked (``run`` is an argument), and it is counted among all calls, from -1 downwards."""
    line: int
    """For display only."""
    label: str
    """The text of the for statement's target ("epoch"); '' if the call is not the iterable of one."""
    kind: str
    """"loop" or "checkpoint"."""
    ends_plainly: bool
    """Leaving the loop early, other than by an exception, means going on right behind it."""
    collapsible: bool
    """Within one iteration of the enclosing marked loop of the function (or one call of it), the interpreter's stack of
    the frame is the same at each entry, but for ``with`` exits: the last entry may stand for all."""
    held: tuple[Path, ...] = ()
    """Where to find the objects that the interpreter itself may hold on to in this function, outside variables."""

    @property
    def name(self) -> str:
        """"simulate#0": what checkpoints call this place."""
        return f"{self.qualname}#{self.ordinal}"


# By id of the code object and offset; the code object is kept, so that its id stays its own.
_sites: dict[tuple[int, int], tuple[types.CodeType, LoopSite]] = {}
_direct: dict[tuple[int, int, str], tuple[types.CodeType, bool]] = {}
_held: dict[tuple[int, int], tuple[types.CodeType, tuple[Path, ...]]] = {}
_checked: dict[int, types.CodeType] = {}


def site_at(frame: types.FrameType) -> LoopSite:
    """The site of the marker that ``frame`` is calling right now.

    The first time a function is seen here, all of it is checked: raises ``UnsupportedCodeError``.
    """
    code = frame.f_code
    known = _sites.get((id(code), frame.f_lasti))
    if known is not None:
        return known[1]
    closure = _closure_of(frame)
    check_frame_code(code, frame.f_globals, closure)
    site = _site(frame, closure)
    _sites[id(code), frame.f_lasti] = (code, site)
    return site


def call_is_direct(frame: types.FrameType, callee_name: str) -> bool:
    """Whether ``frame`` is executing a statement that just calls something named ``callee_name``, at a place where its
    stack is the same each time (as for ``LoopSite.collapsible``). False where there is no source, or any doubt."""
    code = frame.f_code
    key = (id(code), frame.f_lasti, callee_name)
    known = _direct.get(key)
    if known is None:
        known = _direct[key] = (code, _is_direct(frame, callee_name))
    return known[1]


def held_by_caller(frame: types.FrameType) -> tuple[Path, ...]:
    """The same for a frame that is executing a call of its own; () where there is no source."""
    code = frame.f_code
    known = _held.get((id(code), frame.f_lasti))
    if known is None:
        found = source.expression_of(code, frame.f_lasti, frame.f_globals)
        paths: tuple[Path, ...] = ()
        if found is not None:
            scope = found[0].enclosing_scope(found[1])
            view = analysis.Analysis(found[0], scope, frame.f_globals, _closure_of(frame))
            paths = view.held(found[1], operands=True)
        known = _held[id(code), frame.f_lasti] = (code, paths)
    return known[1]


def check_job(function: object) -> None:
    """Raise ``UnsupportedCodeError``, with line and fix, if ``function`` cannot be a job that is resumed exactly.

    Looks at the function, at what it wraps, and at the functions and lambdas defined inside.
    """
    plain = inspect.unwrap(function) if callable(function) else function
    if not isinstance(plain, types.FunctionType):
        what = f"a job is a Python function, and this is a {type(plain).__name__}"
        raise UnsupportedCodeError(what, where=repr(function), fix="decorate a function written with def")
    if plain.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        raise UnsupportedCodeError(
            f"the job {plain.__qualname__} is a generator: it runs only while someone else asks for items",
            where=f"{plain.__code__.co_filename}:{plain.__code__.co_firstlineno}",
            fix="make the job a function (def or async def) that returns its result",
        )
    while True:
        if isinstance(function, types.FunctionType):
            check_frame_code(function.__code__, function.__globals__, _cells(function))
        if function is plain:
            return
        function = function.__wrapped__  # type: ignore[attr-defined]


def check_frame_code(
    code: types.CodeType, globals_: dict[str, object], closure: Mapping[str, object] | None = None
) -> None:
    """The same for any code that is about to enter a marked loop. ``closure``: the values of its free variables."""
    if id(code) in _checked:
        return
    found = source.load(code, globals_)
    if found is None:
        bytecode.marked_calls(code, globals_, closure or {})
    else:
        analysis.Analysis(found[0], found[1], globals_, closure or {}).check()
    _checked[id(code)] = code


def _site(frame: types.FrameType, closure: Mapping[str, object]) -> LoopSite:
    code, offset = frame.f_code, frame.f_lasti
    place = source.place_of(code, offset)
    found = source.load(code, frame.f_globals, place)
    if found is not None:
        call = found[0].call_at(place)
        view = analysis.Analysis(found[0], found[1], frame.f_globals, closure)
        if call is not None and found[0].enclosing_scope(call) is found[1]:
            view.check_call(call)
            facts = view.facts(call)
            return LoopSite(code.co_qualname, facts.ordinal, call.lineno, facts.label, facts.kind,
                            facts.ends_plainly, facts.collapsible, facts.held)  # fmt: skip
    instruction = source.instruction_at(code, offset)
    at = instruction.offset if instruction is not None else offset
    calls = bytecode.marked_calls(code, frame.f_globals, closure)
    ordinal = next((index for index, call in enumerate(calls) if call.offset == at), None)
    if ordinal is None:
        calls = bytecode.marked_calls(code, frame.f_globals, closure, running=at)
        ordinal = -1 - bytecode.call_index(code, at)
    kind = next((call.kind for call in calls if call.offset == at), "loop")
    return LoopSite(code.co_qualname, ordinal, frame.f_lineno, "", kind, False, False)


def _is_direct(frame: types.FrameType, callee_name: str) -> bool:
    code = frame.f_code
    instruction = source.instruction_at(code, frame.f_lasti)
    if instruction is None or not instruction.opname.startswith(("CALL", "PRECALL", *_AWAITING)):
        return False  # an iterator, a property or an operator: what it is a part of is on the stack
    found = source.expression_of(code, frame.f_lasti, frame.f_globals)
    call = found[1] if found is not None else None
    if isinstance(call, ast.Await):
        call = call.value
    if found is None or not isinstance(call, ast.Call):
        return False
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    scope = found[0].enclosing_scope(call)
    view = analysis.Analysis(found[0], scope, frame.f_globals, _closure_of(frame))
    return name == callee_name and view.call_is_direct(call)


_AWAITING = ("SEND", "YIELD_VALUE", "RESUME", "JUMP_BACKWARD_NO_INTERRUPT")
"""Instructions that a coroutine may stand at while it awaits another one."""


def _closure_of(frame: types.FrameType) -> dict[str, object]:
    free = frame.f_code.co_freevars
    if not free:
        return {}
    variables = frame.f_locals
    return {name: variables[name] for name in free if name in variables}


def _cells(function: types.FunctionType) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not bound yet
    return found
