"""Whether two things lead to the same object: what a loop is given, and the variables around it.

Walks what objects lead to, as the garbage collector sees it, into closures, defaults and the frames of generators. Not
followed: modules, classes, module-level names of the code around the loop, objects that come back as themselves.
Most often the variables need not be looked at: where each object that an input leads to has no more references than
those that were met on the way, nobody else can hold one (``Reach.suspects``).
"""

from __future__ import annotations

import contextvars
import enum
import gc
import io
import logging
import pathlib
import random
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt.capture.held import is_spent
from ckpt.capture.visible import kind_of

Stays = Callable[[Any], bool]
"""Whether an object is the same one after a resume, with what it leads to."""

SMALL = 10_000
LIMIT = 500_000
"""Objects that are looked at before, and after, the variables are."""

_ATOMS = frozenset((int, float, str, bytes, bool, complex, type(None), range, slice, type(...), type(NotImplemented)))
_PLAIN: frozenset[type] = frozenset((list, tuple, dict, set, frozenset, types.CellType))
_NOT_FOLLOWED = (
    type,
    types.ModuleType,
    types.CodeType,
    types.FrameType,
    types.TracebackType,
    contextvars.Context,
    contextvars.ContextVar,
)


_VALUES = frozenset(("datetime", "decimal", "fractions", "ipaddress", "re", "uuid", "zoneinfo"))
"""Modules whose objects are values: one is as good as another one that is equal."""


_VALUE_CLASSES = (pathlib.PurePath, logging.Filterer, logging.Formatter, logging.LoggerAdapter)
_never_changes: dict[type, bool] = {}


def never_changes(kind: type) -> bool:
    """Whether it does not matter that two of an object of this class are one: it is a value (a path, a dtype, an index of
    pandas), or belongs to the process (a logger). What it holds for itself (a cache) is nobody's business."""
    known = _never_changes.get(kind)
    if known is None:
        of_arrays = kind.__module__.partition(".")[0] in ("numpy", "pandas")
        known = kind.__module__ in _VALUES or issubclass(kind, _VALUE_CLASSES)
        known = known or (of_arrays and kind.__name__.endswith(("Dtype", "DType", "Index")))
        _never_changes[kind] = known
    return known


def _holds_atoms(value: tuple[Any, ...]) -> bool:
    return not gc.is_tracked(value) or _ATOMS.issuperset(map(type, value))


def leads_to(value: Any) -> Iterable[Any]:
    """The objects that ``value`` refers to, each as often as it does."""
    kind = type(value)
    if kind in _PLAIN:  # most objects are, and there may be many
        return gc.get_referents(value)
    if never_changes(kind) or issubclass(kind, _NOT_FOLLOWED) or kind.__module__.partition(".")[0] == "ckpt" or _is_running(value):
        return ()
    if kind is types.FunctionType:
        if hasattr(value, "__ckpt_marker__"):
            return [value.__wrapped__] if hasattr(value, "__wrapped__") else ()
        # Not the dictionaries themselves: each function has some, and nobody changes those.
        beside = (*(value.__kwdefaults__ or {}).values(), *value.__dict__.values())
        return [one for one in (value.__closure__, value.__defaults__, *beside) if one is not None]
    if isinstance(value, io.IOBase):
        return [one for one in gc.get_referents(value) if isinstance(one, io.IOBase)]
    if kind.__module__.partition(".")[0] == "numpy":
        return [*gc.get_referents(value), *_in_numpy(value)]
    return gc.get_referents(value)


def _is_running(value: Any) -> bool:
    """A coroutine or generator that the loop itself runs in, or an event loop, which knows those."""
    for name in ("gi_running", "cr_running", "ag_running"):
        if getattr(type(value), name, None) is not None and isinstance(value, _COROUTINES):
            return bool(getattr(value, name))
    events = sys.modules.get("asyncio.events")
    return events is not None and isinstance(value, events.AbstractEventLoop)


_COROUTINES = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


def _in_numpy(value: Any) -> list[Any]:
    """What arrays and their iterators hold without telling the garbage collector."""
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.ndarray):
        items = value.ravel().tolist() if value.dtype.hasobject and value.base is None else []
        return [value.base, *items]
    if isinstance(value, numpy.flatiter):
        return [value.base]
    return list(value.operands) if isinstance(value, numpy.nditer) else []


def can_change(value: Any) -> bool:
    """Whether it matters that two of it are one: something can happen to it."""
    if isinstance(value, enum.Enum) or never_changes(type(value)) or type(value).__module__.partition(".")[0] == "ckpt":
        return False
    return kind_of(value) is not None or is_spent(value) or isinstance(value, types.SimpleNamespace | random.Random)


@dataclass(slots=True)
class Reach:
    """What some objects lead to. ``owners``: by which of them each one was found first."""

    found: dict[int, Any] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    references: dict[int, int] = field(default_factory=dict)
    complete: bool = True

    def held_elsewhere(self) -> list[Any]:
        """Those that have more references than were met."""
        counts = zip(self.found.items(), _counts(self.found), strict=True)
        return [one for (key, one), count in counts if count - _OURS > self.references[key]]

    def suspects(self, stays: Stays) -> dict[int, Any]:
        """Those that can change and that somebody else may lead to."""
        return _what_can_change(self.held_elsewhere(), stays)


def _what_can_change(values: list[Any], stays: Stays) -> dict[int, Any]:
    """By id, those of ``values`` and of what they lead to that can change."""
    if not values:
        return {}
    found = reach(values, stays, LIMIT).found | {id(one): one for one in values}
    return {key: one for key, one in found.items() if can_change(one)}


def _counts(found: dict[int, Any]) -> list[int]:
    return [sys.getrefcount(one) for one in found.values()]


_OURS = _counts({0: []})[0]


def reach(roots: list[Any], stays: Stays, limit: int, wanted: Mapping[int, Any] | None = None) -> Reach:
    """What ``roots`` lead to, themselves not included unless one leads to another. Ends at ``limit`` objects, and early
    when one of ``wanted`` is found, which is then the last one."""
    reached = Reach()
    found, references, owners = reached.found, reached.references, reached.owners
    pending = [(root, number) for number, root in enumerate(roots)]
    while pending:
        value, owner = pending.pop()
        for one in leads_to(value):
            kind = type(one)
            if kind in _ATOMS or (kind is tuple and _holds_atoms(one)) or never_changes(kind):
                continue
            key = id(one)
            if key in references:
                references[key] += 1
                continue
            references[key] = 1
            if stays(one):
                continue
            found[key], owners[key] = one, owner
            if wanted is not None and key in wanted:
                return reached
            if len(found) >= limit:
                reached.complete = False
                return reached
            pending.append((one, owner))
    return reached


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables that come back as other objects. ``slots``: how many frames hold each of ``values`` themselves, and not
    in a cell that a closure may hold, too."""

    names: list[str]
    values: list[Any]
    slots: list[int]

    def by_id(self) -> dict[int, str]:
        return {id(value): name for name, value in zip(self.names, self.values, strict=True)}

    def suspects(self, outside: Reach, stays: Stays) -> dict[int, Any]:
        """What they are and lead to that can change and that somebody else may lead to; ``outside`` is their reach."""
        counts = _counts(dict(enumerate(self.values)))
        slots = dict.fromkeys(map(id, self.values), 0)
        for value, own in zip(self.values, self.slots, strict=True):
            slots[id(value)] += own + 1  # one is ``values``
        elsewhere = outside.held_elsewhere()
        for value, count in zip(self.values, counts, strict=True):
            if count - _OURS > slots[id(value)] + outside.references.get(id(value), 0):
                elsewhere.append(value)
        return _what_can_change(elsewhere, stays)


UNKNOWN = ""
"""There are too many objects to tell."""


def shared_with(iterable: Any, read: Callable[[], Variables], stays: Stays) -> str | None:
    """The variable that is or leads to an object that ``iterable`` leads to as well, if it can change. ``read`` is called
    where that has to be looked for."""
    iterable = list(iterable) if type(iterable) is dict else iterable  # nobody is handed its values
    inside = reach([iterable], stays, SMALL)
    suspects = inside.suspects(stays) if inside.complete else inside.found
    if not suspects:
        return None
    variables = read()
    names = variables.by_id()
    for one, value in inside.found.items():  # in this order: what leads to others is the better name
        if one in suspects and one in names and can_change(value):
            return names[one]
    if not inside.complete:
        return _shared_with_much(iterable, variables, stays)
    outside = reach(variables.values, stays, LIMIT, suspects)
    last = next(reversed(outside.found), None)
    if last in suspects:
        return variables.names[outside.owners[last]]
    return None if outside.complete else UNKNOWN


def _shared_with_much(iterable: Any, variables: Variables, stays: Stays) -> str | None:
    """The same for an input that leads to many objects: those of the variables are looked for among them."""
    outside = reach(variables.values, stays, LIMIT)
    if not outside.complete:
        return UNKNOWN
    suspects = variables.suspects(outside, stays)
    if not suspects:
        return None
    inside = reach([iterable], stays, LIMIT, suspects)
    last = next(reversed(inside.found), None)
    if last is None or last not in suspects:
        return None if inside.complete else UNKNOWN
    return variables.by_id().get(last) or variables.names[outside.owners[last]]


def is_alone(value: Any, limit: int = 100) -> bool:
    """Whether nobody else holds what ``value`` leads to, as far as it can change; False where that is more than ``limit``."""
    inside = reach([value], _nothing_stays, limit)
    return inside.complete and not inside.suspects(_nothing_stays)


def are_apart(items: list[Any] | tuple[Any, ...], limit: int = 2000) -> bool:
    """Whether nobody but ``items`` holds one of them, or what it leads to, as far as it can change; and no two lead to the
    same. False where there are more than ``limit`` objects to look at."""
    inside = reach([items], _nothing_stays, limit)
    if not inside.complete:
        return False
    # What has one reference belongs to one item. Classes and the like have more, and do not matter.
    counts = zip(inside.found.values(), _counts(inside.found), strict=True)
    return not _what_can_change([one for one, count in counts if count - _OURS > 1], _nothing_stays)


def _nothing_stays(value: Any) -> bool:
    return False
