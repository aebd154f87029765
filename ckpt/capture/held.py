"""What the interpreter itself holds while a marked loop runs, besides variables: objects it got on the way there.

The exits of ``with`` statements, the iterators of unmarked loops, and operands of a half-evaluated expression
(``log.append(helper())``) refer to objects that the re-run code has made again. Replacing the variables that refer to
them would tear the two apart, so such objects are restored *in place*. Which they are is read from the source: every
name, attribute and item that those statements mention.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from ckpt.capture.visible import attribute_of

Path = tuple[Any, ...]
"""A variable's name, then accesses: ("attribute", name), ("item", constant) or ("item of", variable)."""

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
