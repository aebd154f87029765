"""Functions that have no importable name: those defined inside the job, its helpers, or a factory.

Such a function is saved as (where its code is, its globals' module, its closure), not as byte code: on restore it is
built again on the *same* code and module globals, and a closure over a variable of a captured frame is tied to that
very variable again, so that ``nonlocal`` and shared counters keep working. A function whose code cannot be found that
way (made by ``exec``) is left to cloudpickle.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

CodeAddress = tuple[str, str, str, int]
"""(kind, anchor, qualified name, which of several with that name): where a nested code object is found again."""


def _nested(code: types.CodeType) -> tuple[types.CodeType, ...]:
    found: list[types.CodeType] = []
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += [constant, *_nested(constant)]
    return tuple(found)


def _position(code: types.CodeType, outer: types.CodeType) -> tuple[str, int] | None:
    same = [one for one in _nested(outer) if one.co_qualname == code.co_qualname]
    for position, one in enumerate(same):
        if one is code:
            return code.co_qualname, position
    return None


def _codes_of(module: types.ModuleType, name: str) -> Iterator[types.CodeType]:
    """Code objects of the module-level function or class ``name``, decorated ones included."""
    pending = [getattr(module, name, None)]
    while pending:
        value = pending.pop()
        if isinstance(value, types.FunctionType):
            yield value.__code__
        elif isinstance(value, type) and value.__module__ == module.__name__:
            pending += list(vars(value).values())
        elif isinstance(value, (staticmethod, classmethod)):
            pending.append(value.__func__)
        wrapped = getattr(value, "__dict__", {}).get("__wrapped__") if value is not None else None
        if wrapped is not None:
            pending.append(wrapped)


def is_importable(value: Any) -> bool:
    """Whether ``module.qualified.name`` leads to this very object, so that pickle's own reference is exact."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
        if found is None:
            return False
    return found is value


def address_of(function: types.FunctionType, frames: list[types.FrameType]) -> CodeAddress | None:
    """Where the code of ``function`` will be found again, or None.

    Its module is that of its globals: ``__module__`` may have been copied from another function (functools.wraps).
    """
    code = function.__code__
    module_name = str(function.__globals__.get("__name__", ""))
    for number, frame in enumerate(frames):
        place = _position(code, frame.f_code)
        if place is not None:
            return ("frame", str(number), *place)
    module = sys.modules.get(module_name)
    anchor = code.co_qualname.partition(".")[0]
    if module is None:
        return None
    for outer in _codes_of(module, anchor):
        if outer is code:
            return ("module", f"{module_name}:{anchor}", code.co_qualname, -1)
        place = _position(code, outer)
        if place is not None:
            return ("module", f"{module_name}:{anchor}", *place)
    return None


def find_code(address: CodeAddress, frames: list[types.FrameType]) -> tuple[types.CodeType, dict[str, Any]]:
    """(code, globals) at ``address``. LookupError if the program has no such function any more."""
    kind, anchor, qualname, position = address
    if kind == "frame":
        frame = frames[int(anchor)]
        same = [one for one in _nested(frame.f_code) if one.co_qualname == qualname]
        return same[position], frame.f_globals
    module_name, _, name = anchor.partition(":")
    module = sys.modules[module_name]
    for outer in _codes_of(module, name):
        if position < 0 and outer.co_qualname == qualname:
            return outer, vars(module)
        same = [one for one in _nested(outer) if one.co_qualname == qualname]
        if 0 <= position < len(same):
            return same[position], vars(module)
    raise LookupError(f"{module_name} has no function {qualname}")


def attributes_of(function: types.FunctionType) -> dict[str, Any]:
    """What a function carries besides code, globals and closure."""
    return {
        "defaults": function.__defaults__,
        "kwdefaults": function.__kwdefaults__,
        "dict": dict(vars(function)),
        "doc": function.__doc__,
        "qualname": function.__qualname__,
        "module": function.__module__,
        "annotations": dict(function.__annotations__),
    }


def set_attributes(function: types.FunctionType, attributes: dict[str, Any]) -> None:
    function.__defaults__ = attributes["defaults"]
    function.__kwdefaults__ = attributes["kwdefaults"]
    function.__dict__.update(attributes["dict"])
    function.__doc__ = attributes["doc"]
    function.__qualname__ = attributes["qualname"]
    function.__module__ = attributes["module"]
    function.__annotations__ = attributes["annotations"]
