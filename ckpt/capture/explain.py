"""Names the part of a value that cannot be saved, and the line of code that helps.

Guarantees: only what pickling itself would look at is looked at (attributes in dictionaries and slots, items, closure
cells, what ``__reduce_ex__`` returns): no property runs. The work is bounded, whatever the size or shape of the value.
"""

from __future__ import annotations

import functools
import inspect
import io
import re
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator

_TRIES = 2000
_DEPTH = 60
_GROUP = 16
_HEAP_TYPE = 1 << 9
"""The flag of classes that are made while the program runs; extension modules make such, too."""
_SEEN = 100_000
_ATOMS = (str, bytes, bytearray, int, float, complex, bool, type(None), type, types.ModuleType, range)
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)

Child = tuple[str, object]
TryPickle = Callable[[object], object]


def find_uncapturable(value: object, name: str, try_pickle: TryPickle) -> tuple[str, object, Exception]:
    """(path, culprit, error) of the deepest named part of ``value`` that ``try_pickle`` raises for.

    ``try_pickle(value)`` must raise. The path begins with ``name``: ``model.optimizer.hook``, ``config['client']``,
    ``callback.<closure>.sock``. A part that fails only because it refers back to the real culprit is passed over.
    """
    search = _Search(try_pickle)
    error = search.error(value)
    if error is None:
        raise ValueError(f"{name} can be pickled")
    return search.explore(value, name, 0) or (name, value, error)


def path_to(part: object, value: object, name: str) -> str | None:
    """How ``value``, which is called ``name``, leads to the very object ``part``; None if it does not, as far as is looked."""
    pending, seen = deque([(name, value)]), {id(value): value}
    while pending and part is not None and len(seen) < _SEEN:
        path, one = pending.popleft()
        if one is part:
            return path
        for segment, child in children(one):
            if id(child) not in seen and not isinstance(child, _ATOMS):
                seen[id(child)] = child  # kept, so that its id stays its own
                pending.append((path + segment, child))
    return None


class _Search:
    def __init__(self, try_pickle: TryPickle) -> None:
        self._try = try_pickle
        self._left = _TRIES
        self._errors: dict[int, tuple[object, Exception | None]] = {}  # by id; the value is kept, so it stays its own
        self._entered: set[int] = set()

    def error(self, value: object) -> Exception | None:
        """Why ``value`` cannot be pickled; None if it can, or if no tries are left."""
        if isinstance(value, _ATOMS):
            return None
        known = self._errors.get(id(value))
        if known is None:
            known = self._errors[id(value)] = (value, self._attempt(value))
        return known[1]

    def explore(self, value: object, path: str, depth: int) -> tuple[str, object, Exception] | None:
        """The culprit at or below ``value``, which fails; None if it fails only through what is being explored."""
        self._entered.add(id(value))
        own = True
        for segment, child in self._failing(list(children(value)) if depth < _DEPTH else []):
            own = False
            if id(child) in self._entered:
                continue
            found = self.explore(child, path + segment, depth + 1)
            if found is not None:
                return found
        error = self.error(value)
        return (path, value, error) if own and error is not None else None

    def _attempt(self, value: object) -> Exception | None:
        if self._left <= 0:
            return None
        self._left -= 1
        try:
            self._try(value)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - user code pickles itself; whatever it raises is the answer
            return error
        return None

    def _failing(self, candidates: list[Child]) -> Iterator[Child]:
        """The children that fail, found group by group so that large containers take few tries."""
        if len(candidates) <= _GROUP:
            yield from (child for child in candidates if self.error(child[1]) is not None)
            return
        size = max(_GROUP, len(candidates) // _GROUP)
        for start in range(0, len(candidates), size):
            group = candidates[start : start + size]
            if self._attempt([child for _, child in group]) is not None:
                yield from self._failing(group)


def children(value: object) -> Iterator[Child]:
    """The parts of ``value`` that pickling visits, each with its step on the path."""
    if isinstance(value, _ATOMS):
        return
    if isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield ".<self>", value.__self__
        yield ".<function>", value.__func__
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f".args{segment}", item) for segment, item in children(value.args))
        yield from ((f".keywords{segment}", item) for segment, item in children(value.keywords))
    else:
        yield from _items(value)
        if type(value) not in _CONTAINERS:
            yield from _of_instance(value)


def _items(value: object) -> Iterator[Child]:
    if isinstance(value, dict):
        for key, item in dict.items(value):
            yield f"[{_key(key)}]", item
            yield f".<key {_key(key)}>", key
    elif isinstance(value, list | tuple | deque):
        names = getattr(type(value), "_fields", ())
        for index, item in enumerate(value):
            yield f".{names[index]}" if isinstance(names, tuple) and index < len(names) else f"[{index}]", item
    elif isinstance(value, set | frozenset):
        for item in value:
            yield f".<member {type(item).__name__}>", item


def _of_function(function: types.FunctionType) -> Iterator[Child]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".<closure>.{name}", cell.cell_contents
        except ValueError:
            continue  # not bound yet
    yield from ((f".<default {index}>", item) for index, item in enumerate(function.__defaults__ or ()))
    yield from ((f".<default {name}>", item) for name, item in (function.__kwdefaults__ or {}).items())
    for name in function.__code__.co_names:  # pickled along with a function that is pickled by value
        if name in function.__globals__:
            yield f".<global>.{name}", function.__globals__[name]


def _of_instance(value: object) -> Iterator[Child]:
    try:
        reduced = value.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - it cannot say what it consists of: then it is the culprit itself
        return
    if not isinstance(reduced, tuple):
        return
    arguments = reduced[1] if len(reduced) > 1 and isinstance(reduced[1], tuple) else ()
    state = reduced[2] if len(reduced) > 2 else None
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    named = [part for part in parts if isinstance(part, dict)]
    if state is not None and len(named) < sum(part is not None for part in parts):
        yield ".<state>", state
    else:
        yield from ((f".{name}", item) for part in named for name, item in part.items())
    if not isinstance(value, _CONTAINERS):
        yield from ((f".<argument {index}>", item) for index, item in enumerate(arguments))


def advice(culprit: object, path: str) -> str:
    """The line to write so that the part ``culprit`` at ``path`` is no obstacle any more."""
    name = (re.match(r"\w+", path) or ["it"])[0]
    recreate = f'@ckpt.job(recreate=("{name}",)), if the code before the loop makes {name} again'
    kind = type(culprit).__name__
    if inspect.isgenerator(culprit) or _is_iterator(culprit):
        return f"mark the loop over it (for item in ckpt.loop(...)), or build a list first: {name} = list({name})"
    if inspect.iscoroutine(culprit) or inspect.isasyncgen(culprit):
        return "finish it before the marked loop, or start it inside the loop's body"
    if isinstance(culprit, io.IOBase):
        if _writes(culprit):
            return "write with ckpt.output(path), which is cut back on a resume, or one whole file per item in a ckpt.step"
        return f"open it inside the loop's body, or {recreate}"
    if kind in ("lock", "RLock", "Lock", "Condition", "Semaphore"):
        return f"release it before the iteration ends (with {name}: inside the loop's body), or {recreate}"
    if isinstance(culprit, types.FunctionType):
        return f"define {culprit.__name__!r} with def at the top level of its module"
    if isinstance(culprit, types.FrameType | types.TracebackType | types.CodeType):
        return f"do not keep a {kind} in a variable across iterations (del {name}), or keep its text instead"
    if "<locals>" in type(culprit).__qualname__ or (isinstance(culprit, type) and "<locals>" in culprit.__qualname__):
        local = culprit if isinstance(culprit, type) else type(culprit)
        return f"define the class {local.__name__} at the top level of its module, or {recreate}"
    if _is_connection(culprit):
        return f'@ckpt.job(recreate=("{name}",)), if the code makes {name} again, before the loop or in its body; or del {name} after use'
    return f"{recreate}; or {_else_advice(type(culprit), name)}"


def _else_advice(kind: type, name: str) -> str:
    if _can_be_changed(kind):
        return f"give {kind.__name__} a __getstate__ that leaves out what cannot be saved"
    return f"del {name} after use, inside the loop's body"


def _can_be_changed(kind: type) -> bool:
    """Whether the class is a program's own, made by a class statement: not one of an extension, or of Python itself."""
    if not kind.__flags__ & _HEAP_TYPE or kind.__module__.partition(".")[0] in sys.stdlib_module_names:
        return False
    return any("__dict__" in vars(base) or "__slots__" in vars(base) for base in kind.__mro__)


def _is_iterator(value: object) -> bool:
    return hasattr(type(value), "__next__") and hasattr(type(value), "__iter__") and not isinstance(value, io.IOBase)


def _writes(file: io.IOBase) -> bool:
    if file.closed:
        return False
    return file.writable()


def _is_connection(value: object) -> bool:
    for module, name in (("socket", "socket"), ("sqlite3", "Connection"), ("sqlite3", "Cursor"), ("ssl", "SSLContext")):
        known = getattr(sys.modules.get(module), name, None)
        if isinstance(known, type) and isinstance(value, known):
            return True
    return bool(re.search(r"(?i)client|connection|session|cursor|channel|pool|thread|popen|process", type(value).__name__))


def _key(key: object) -> str:
    if isinstance(key, str | int | float | bool | bytes | None):
        return repr(key)
    return f"<{type(key).__name__}>"
