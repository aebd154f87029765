"""What the interpreter itself holds while a marked loop runs, besides variables: objects it got on the way there.

The exits of ``with`` statements, the iterators of unmarked loops, and operands of a half-evaluated expression
(``log.append(helper())``) refer to objects that the re-run code has made again. Replacing the variables that refer to
them would tear the two apart, so such objects are restored *in place*. Which they are is read from the source: every
name, attribute and item that those statements mention.
"""

from __future__ import annotations

import ast
import collections
import enum
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ckpt.capture.source import own_nodes
from ckpt.capture.visible import attribute_of, kind_of, lead_to

Path = tuple[Any, ...]
"""A variable's name, then accesses: ("attribute", name), ("item", constant) or ("item of", variable).

``("walked", how)`` at the end: an unmarked loop goes through what it leads to (see ``walked``). ``("given", how)``: a
function written in C was given it, or it is an operand of a half-evaluated expression (see ``given``)."""

EXCEPTION: Path = ("<exception>",)

_MISSING: Any = object()


def paths_in(tree: ast.AST) -> Iterator[Path]:
    """The paths that ``tree`` mentions, outside nested functions."""
    if isinstance(tree, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    path = _path(tree)
    if path is not None:
        yield path
    for child in ast.iter_child_nodes(tree):
        yield from paths_in(child)


def _path(node: ast.AST) -> Path | None:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        base = _path(node.value)
        return None if base is None else (*base, ("attribute", node.attr))
    if isinstance(node, ast.Subscript):
        base = _path(node.value)
        if base is not None and isinstance(node.slice, ast.Constant):
            return (*base, ("item", node.slice.value))
        if base is not None and isinstance(node.slice, ast.Name):
            return (*base, ("item of", node.slice.id))
    return None


def resolve(path: Path, variables: Mapping[str, Any]) -> Any:
    """The object at ``path``, or None where there is none. Runs no code of the user's (no properties)."""
    value: Any = variables.get(path[0])
    for kind, what in path[1:]:
        if kind in ("walked", "given"):
            continue
        if kind == "attribute":
            value = attribute_of(value, what)
            continue
        index = what if kind == "item" else variables.get(what, _MISSING)
        if type(value) not in (list, tuple, dict) or index is _MISSING:
            return None
        try:
            value = value[index]
        except (LookupError, TypeError):
            return None
    return value


_PASSING_ON = ("enumerate", "zip", "reversed", "iter")
_COPYING = ("sorted", "list", "tuple", "set", "frozenset")
_COUNTING = ("range", "len")


def walked(tree: ast.AST, how: str = "itself") -> Iterator[Path]:
    """The paths in the iterable of an unmarked loop, each with what the interpreter holds on to while that loop runs:

    ``("walked", "itself")`` the object, ``"items"`` its items (or keys), ``"values"`` a dictionary's values, too, ``"all"``
    whatever it leads to. (The caller adds ``"rebound"``: the name will mean another object while the loop runs.)
    """
    path = _path(tree)
    if path is not None:
        yield (*path, ("walked", how))
    elif isinstance(tree, ast.Subscript):
        yield from walked(tree.value, _more(how, "items"))
    elif isinstance(tree, ast.List | ast.Tuple):
        for item in tree.elts:
            yield from walked(item)
    elif isinstance(tree, ast.Starred | ast.BinOp):
        for child in ast.iter_child_nodes(tree):
            yield from walked(child, _more(how, "items"))
    elif isinstance(tree, ast.Call):
        yield from _walked_call(tree, how)
    else:
        for one in paths_in(tree):
            yield (*one, ("walked", "all"))


def _walked_call(call: ast.Call, how: str) -> Iterator[Path]:
    name = getattr(call.func, "id", None)
    method = getattr(call.func, "attr", None)
    if name in _COUNTING:
        return
    if name in _PASSING_ON or name in _COPYING:
        for given in call.args:
            yield from walked(given, how if name in _PASSING_ON else _more(how, "items"))
    elif method in ("keys", "items", "values") and isinstance(call.func, ast.Attribute) and not call.args:
        yield from walked(call.func.value, "values" if how == "items" and method != "keys" else how)
    else:
        parts = [*call.args, *(keyword.value for keyword in call.keywords), getattr(call.func, "value", None)]
        for one in (path for part in parts if part is not None for path in paths_in(part)):
            yield (*one, ("walked", "all"))


def given(tree: ast.AST) -> Iterator[Path]:
    """The paths in an argument of a function written in C, which may hold on to items and iterators of it."""
    parts = [one.iter for one in tree.generators] if isinstance(tree, ast.GeneratorExp) else [tree]
    for path in (path for part in parts for path in walked(part, "items")):
        yield (*path[:-1], ("given", path[-1][1]))


def emptied(call: ast.Call) -> Iterator[Path]:
    """The list that is sorted in place by ``call``: it is empty until that is done, and its items are nowhere to be seen."""
    path = _path(call.func.value) if isinstance(call.func, ast.Attribute) and call.func.attr == "sort" else None
    if path is not None:
        yield (*path, ("given", "emptied"))


def beside(tree: ast.AST) -> Iterator[Path]:
    """The paths in an operand whose value waits for another operand of the same expression."""
    path = _path(tree)
    if path is not None:
        yield (*path, ("given", "operand"))
        return
    found = walked(tree.value, "items") if isinstance(tree, ast.Attribute | ast.Subscript) else walked(tree)
    for path in found:
        yield (*path[:-1], ("given", path[-1][1]))


def waiting(parent: ast.AST, child: ast.AST) -> Iterator[Path]:
    """What waits on the interpreter's stack while ``child`` of ``parent`` runs on the way out: a result that is being
    returned, in a ``finally`` and in the exit of a ``with``; an exception that is raised behind it. ``EXCEPTION`` stands for
    the one that is being handled then."""
    left: list[Any] = []
    if isinstance(parent, ast.With | ast.AsyncWith) and isinstance(child, ast.withitem):
        left = [*parent.body]
    elif isinstance(parent, ast.Try | ast.TryStar) and child in parent.finalbody:
        left = [*parent.body, *parent.handlers, *parent.orelse]
        yield EXCEPTION
    elif isinstance(parent, ast.ExceptHandler) and any(
        isinstance(node, ast.Raise) and node.exc is None for node in own_nodes(ast.Module(parent.body, []))
    ):
        yield EXCEPTION
    for node in own_nodes(ast.Module(left, [])):
        value = node.value if isinstance(node, ast.Return) else node.exc if isinstance(node, ast.Raise) else None
        if value is not None:
            yield from paths_in(value)
            yield from beside(value)


def operands_before(parent: ast.AST, child: ast.AST) -> list[ast.AST]:
    """The operands of the expression (or assignment) ``parent`` that are evaluated, and kept, before ``child`` is."""
    if isinstance(parent, ast.AugAssign):
        return [parent.target]
    if not isinstance(parent, _KEEP_OPERANDS):
        return []
    parts = list(ast.iter_child_nodes(parent))
    return [part for part in parts[: parts.index(child)] if isinstance(part, ast.expr | ast.keyword)]


_KEEP_OPERANDS = (ast.Call, ast.BinOp, ast.Compare, ast.Subscript, ast.List, ast.Tuple, ast.Set, ast.Dict)


def _more(how: str, least: str) -> str:
    return least if how == "itself" else how


def kept_by_walking(value: Any, how: str) -> list[Any]:
    """What an unmarked loop over (something made of) ``value`` holds on to, besides ``value`` itself where that is put
    back in place and read on from."""
    if how == "rebound":
        return [value, *kept_by_walking(value, "all")]
    if how == "operand" and kind_of(value) is not None:
        return []
    if isinstance(value, str | bytes | range):
        return []
    if isinstance(value, dict):
        return [] if how == "itself" else [*value] if how == "items" else [*value, *value.values()]
    if isinstance(value, list | collections.deque):
        return [] if how == "itself" else list(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return [] if how == "itself" and kind_of(value) in (None, "array", "object_array", "bytearray") else below(value)


def below(value: Any) -> list[Any]:
    return [one for one, _ in lead_to(value, kind_of(value))]


def is_spent(value: Any) -> bool:
    """Whether iterating ``value`` uses it up, so that a copy of it would go on from a place of its own.

    A file is not meant: the code opens it again, and its position comes back in place.
    """
    if isinstance(value, io.IOBase):
        return isinstance(value, io.StringIO | io.BytesIO)
    return hasattr(type(value), "__next__") or hasattr(type(value), "__anext__")


def first_by_value(values: list[Any], is_in_place: Callable[[Any], bool]) -> Any:
    """The first object that ``values`` are or lead to which can change and would come back as another one; or None."""
    pending, seen = list(values), set[int]()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        kind = None if isinstance(value, enum.Enum) else kind_of(value)
        if kind is not None and not is_in_place(value):
            return value
        pending += [one for one, _ in lead_to(value, kind)]
    return None


def text_of(path: Path) -> str:
    """The path as it stands in the source."""
    text = str(path[0])
    for kind, what in path[1:]:
        text += {"attribute": f".{what}", "item": f"[{what!r}]", "item of": f"[{what}]"}.get(kind, "")
    return text
