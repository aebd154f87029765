"""What a name or an attribute chain in the source means, without running any of it.

Owns the resolution of ``loop``, ``ckpt.loop``, ``L``, ``run.loop`` and of the callables around them to objects. Only
globals, built-ins, closure cells, imports, simple local assignments and the dictionaries of modules and classes are
looked at: no call, no property, no import happens.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckpt.capture.source import Scope, Source, own_nodes

MARKED = ("loop", "checkpoint")
"""The kinds of markers that are safe points: their calls are sites."""
_RUN_METHODS = {"loop": "loop", "checkpoint": "checkpoint", "step": "step"}
_DEPTH = 8
_WITH_NAMES = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


class Unknown:
    """Stands for a value that the source does not tell."""


@dataclass(frozen=True, slots=True)
class Named:
    """Something that is known by its dotted name only, because its module has not been imported yet."""

    path: str


@dataclass(frozen=True, slots=True)
class RunMember:
    """An attribute of a run; of the run itself where ``name`` is empty."""

    name: str


UNKNOWN = Unknown()
RUN = RunMember("")
Binding = ast.expr | Named | None


def marker_kind(value: object) -> str | None:
    """"loop", "checkpoint", "step", or "run" (gives a run), if calling ``value`` calls a marker of ckpt."""
    if isinstance(value, RunMember):
        return _RUN_METHODS.get(value.name)
    if isinstance(value, Unknown | Named):
        return None
    while isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, types.MethodType | staticmethod | classmethod):
        value = value.__func__
    kind = inspect.getattr_static(value, "__ckpt_marker__", None)
    return kind if isinstance(kind, str) else None


def member(base: object, name: str) -> object:
    """What ``base.name`` is, where dictionaries tell."""
    if isinstance(base, RunMember):
        return RunMember(name) if base is RUN else UNKNOWN
    if isinstance(base, Named):
        return Named(f"{base.path}.{name}")
    if isinstance(base, types.ModuleType):
        if name in vars(base):
            return vars(base)[name]
        own = base.__name__ == "ckpt"  # ours: its attributes may be loaded at first use
        return getattr(base, name, UNKNOWN) if own else Named(f"{base.__name__}.{name}")
    if base is UNKNOWN:
        return UNKNOWN
    if own_module(base).startswith("ckpt.") and type(base).__name__ == "Run":
        return RunMember(name)
    for owner in (base if isinstance(base, type) else type(base)).__mro__:
        if name in vars(owner):
            found = vars(owner)[name]
            return found.__func__ if isinstance(found, staticmethod | classmethod) else found
    return UNKNOWN


def makes_run(callee: object) -> bool:
    """Whether calling ``callee`` gives the Run object (``ckpt.open``, ``ckpt.current_run``)."""
    return marker_kind(callee) == "run"


def own_module(value: object) -> str:
    """The module that defines ``value`` (for an instance, its class), or all of a name that is not imported yet."""
    if isinstance(value, Named):
        return value.path
    module = getattr(value if isinstance(value, _WITH_NAMES) else type(value), "__module__", None)
    return module if isinstance(module, str) else ""


def own_name(value: object) -> str:
    """The name that a function or class was defined under; '' for anything else."""
    return value.__name__ if isinstance(value, _WITH_NAMES) else ""


def imported(module: str, attribute: str | None) -> object:
    """What an import statement binds, as far as modules are loaded."""
    found: object = sys.modules.get(module)
    if found is None:
        return Named(module if attribute is None else f"{module}.{attribute}")
    return found if attribute is None else member(found, attribute)


class Names:
    """The names in one function (``root``) and in the functions defined inside it."""

    def __init__(
        self, source: Source, root: Scope, globals_: Mapping[str, object], closure: Mapping[str, object]
    ) -> None:
        self.source = source
        self.root = root
        self._globals = globals_
        self._closure = closure
        self._bound: dict[Scope, dict[str, list[Binding]]] = {}

    def kind(self, call: ast.Call, scope: Scope) -> str | None:
        """The kind of the marker that ``call`` calls; None if it calls none."""
        return marker_kind(self.value(call.func, scope))

    def value(self, node: ast.expr, scope: Scope, depth: int = 0) -> object:
        """The object that ``node`` evaluates to in ``scope``; UNKNOWN where only running would tell."""
        if depth > _DEPTH:
            return UNKNOWN
        if isinstance(node, ast.Name):
            return self._name(node.id, scope, depth)
        if isinstance(node, ast.Attribute):
            return member(self.value(node.value, scope, depth + 1), node.attr)
        if isinstance(node, ast.NamedExpr):
            return self.value(node.value, scope, depth + 1)
        if isinstance(node, ast.Call):
            return RUN if makes_run(self.value(node.func, scope, depth + 1)) else UNKNOWN
        return UNKNOWN

    def bindings(self, scope: Scope) -> dict[str, list[Binding]]:
        """For each name bound in ``scope``'s own body: what it is bound to (None: only running would tell)."""
        if scope not in self._bound:
            self._bound[scope] = _bindings(scope)
        return self._bound[scope]

    def _name(self, name: str, scope: Scope, depth: int) -> object:
        for owner in self._visible(scope):
            found = self.bindings(owner).get(name)
            if not found:
                continue
            values = [self._content(binding, owner, depth) for binding in found]
            for value in values:
                if value is RUN or marker_kind(value) is not None:
                    return value
            if not isinstance(owner, ast.Module):
                return values[0] if len(values) == 1 else UNKNOWN
        for space in (self._closure, self._globals, vars(builtins)):
            if name in space:
                return space[name]
        return UNKNOWN

    def _visible(self, scope: Scope) -> Iterator[Scope]:
        """The scopes whose names ``scope`` sees, inside out, up to the root; then the module.

        Functions around the root are left out: what they bind is in the closure, as values.
        """
        current = scope
        while True:
            if current is scope or not isinstance(current, ast.ClassDef):
                yield current
            if current is self.root or isinstance(current, ast.Module):
                break
            current = self.source.enclosing_scope(current)
        if not isinstance(current, ast.Module):
            yield self.source.tree

    def _content(self, binding: Binding, owner: Scope, depth: int) -> object:
        if binding is None:
            return UNKNOWN
        if isinstance(binding, Named):
            module, _, attribute = binding.path.partition(":")
            return imported(module, attribute or None)
        return self.value(binding, owner, depth + 1)


def _bindings(scope: Scope) -> dict[str, list[Binding]]:
    found: dict[str, list[Binding]] = {}
    told: set[ast.AST] = set()
    outer: set[str] = set()
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        arguments = (node for node in ast.walk(scope.args) if isinstance(node, ast.arg))
        found.update({argument.arg: [None] for argument in arguments})
    for node in own_nodes(scope):
        for target, content in _assigned(node):
            if isinstance(target, ast.Name):
                told.add(target)
                found.setdefault(target.id, []).append(content)
        if isinstance(node, ast.Import | ast.ImportFrom):
            for local, path in _imports(node):
                found.setdefault(local, []).append(Named(path))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            outer.update(node.names)
        elif (name := _bound_otherwise(node)) and node not in told:
            found.setdefault(name, []).append(None)
    return {name: bindings for name, bindings in found.items() if name not in outer}


def _assigned(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """(target, value) of an assignment or ``with ... as``."""
    if isinstance(node, ast.Assign):
        return [(target, node.value) for target in node.targets]
    if isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value is not None:
        return [(node.target, node.value)]
    if isinstance(node, ast.withitem) and node.optional_vars is not None:
        return [(node.optional_vars, node.context_expr)]
    return []


def _bound_otherwise(node: ast.AST) -> str | None:
    """The name that ``node`` binds or deletes, to what only running would tell."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return node.id
    if isinstance(node, ast.MatchAs | ast.MatchStar | ast.ExceptHandler):
        return node.name
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    return None


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """(local name, "module:attribute") of each name that the statement binds; relative imports tell nothing."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield alias.asname or alias.name.partition(".")[0], alias.name if alias.asname else alias.name.partition(".")[0]
        elif node.level == 0 and node.module:
            yield alias.asname or alias.name, f"{node.module}:{alias.name}"
