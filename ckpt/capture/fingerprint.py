"""The normalised code of a job and of what it uses of its own module, to tell whether the code was changed.

Counts: the statements of the job, of the functions of its module that it names (and those that they name, and so on),
and of whole classes of its module that are named. Does not count: comments, formatting, docstrings, annotations,
ckpt's own decorators and their options; other modules; the values of module-level variables. Digests of source are the
same on every version of Python as far as its syntax tree is; digests of byte code say which version they belong to.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import itertools
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ckpt.capture import source
from ckpt.capture.names import UNKNOWN, marker_kind, member, own_module

_SKIPPED = frozenset({"annotation", "returns", "type_comment", "type_params", "ctx", "kind", "type_ignores"})
_TABLE_LIMIT = 1000
_HAS_DOCSTRING = 0x4000000
_FLAGS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE


@dataclass(frozen=True, slots=True)
class _Unit:
    """One function or class: its digest, and the names that it looks up in its module."""

    digest: str
    names: frozenset[str] = field(repr=False)


def fingerprint(function: object) -> dict[str, str]:
    """Qualified name -> digest of the code, for the job ``function`` and what it uses of its module.

    A digest is hex, and has "bytecode:<version>:" before it where there was no source.
    """
    job = inspect.unwrap(function) if callable(function) else function
    if not isinstance(job, types.FunctionType):
        return {}
    found: dict[str, str] = {}
    pending: list[object] = [job]
    owner = job.__globals__.get(job.__qualname__.partition(".")[0])
    if isinstance(owner, type):
        pending.append(owner)  # a method: it uses its class
    while pending:
        for name, unit, cells in _units(pending.pop(), job):
            if name in found:
                continue
            found[name] = unit.digest
            values = [job.__globals__[known] for known in unit.names if known in job.__globals__]
            pending.extend(part for value in [*values, *cells] for part in _parts(value))
    return found


def changed(old: dict[str, str], new: dict[str, str]) -> tuple[str, ...]:
    """What differs between two fingerprints, sorted: "name", "name (added)", "name (removed)".

    A digest of source and one of byte code, or of another version's byte code, are not compared.
    """
    told = {name for name in old.keys() & new.keys() if _kind(old[name]) == _kind(new[name]) and old[name] != new[name]}
    kinds = {_kind(value) for value in old.values()}, {_kind(value) for value in new.values()}
    told |= {f"{name} (added)" for name in new.keys() - old.keys() if _kind(new[name]) in kinds[0]}
    told |= {f"{name} (removed)" for name in old.keys() - new.keys() if _kind(old[name]) in kinds[1]}
    return tuple(sorted(told))


def _kind(digest: str) -> str:
    return digest.rpartition(":")[0]


def _parts(value: object) -> Iterable[object]:
    """The functions that a module-level value stands for: itself, or those in a table of functions."""
    if isinstance(value, dict):
        return itertools.islice(list(value.values()), _TABLE_LIMIT)
    if isinstance(value, list | tuple):
        return value[:_TABLE_LIMIT]
    return (value,)


def _units(value: object, job: types.FunctionType) -> Iterator[tuple[str, _Unit, list[object]]]:
    """(qualified name, code, closure values) of the functions of the job's module behind ``value``."""
    module = job.__module__
    while isinstance(value, functools.partial):
        value = value.func
    wrapped = inspect.getattr_static(value, "__wrapped__", None)
    if isinstance(wrapped, types.MemberDescriptorType):
        wrapped = wrapped.__get__(value)
    if wrapped is not None:  # decorated: what is inside counts too
        yield from _units(wrapped, job)
    if isinstance(value, types.MethodType | staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, types.FunctionType):
        if value.__globals__ is job.__globals__ and value.__code__.co_filename == job.__code__.co_filename:
            cells = [cell.cell_contents for cell in value.__closure__ or () if not _empty(cell)]
            yield value.__qualname__, _function(value.__code__, value.__globals__), cells
        return
    cls = value if isinstance(value, type) else type(value)
    if own_module(cls) == module:
        yield from _class(cls, job)


def _class(cls: type, job: types.FunctionType) -> Iterator[tuple[str, _Unit, list[object]]]:
    for base in cls.__mro__[1:]:
        if own_module(base) == job.__module__:
            yield from _class(base, job)
    for content in vars(cls).values():
        functions = [content]
        if isinstance(content, property):
            functions = [content.fget, content.fset, content.fdel]
        elif isinstance(content, functools.cached_property):
            functions = [content.func]
        for function in functions:
            if isinstance(function, types.FunctionType | staticmethod | classmethod):
                yield from _units(function, job)
    unit = _class_body(cls, job)
    if unit is not None:
        yield cls.__qualname__, unit, []


def _empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True


# By id; the object is kept, so that its id stays its own.
_known: dict[int, tuple[types.CodeType, _Unit]] = {}
_bodies: dict[int, tuple[type, _Unit | None]] = {}


def _function(code: types.CodeType, globals_: dict[str, object]) -> _Unit:
    known = _known.get(id(code))
    if known is None:
        found = source.load(code, globals_)
        unit = _Writer(globals_).unit(found[1]) if found is not None else _from_code(code)
        known = _known[id(code)] = (code, unit)
    return known[1]


def _class_body(cls: type, job: types.FunctionType) -> _Unit | None:
    """What the class statement holds beside its methods; None where the source does not show it."""
    if id(cls) not in _bodies:
        found = source.load(job.__code__, job.__globals__)
        nodes = ast.walk(found[0].tree) if found is not None else ()
        matching = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
        unit = _Writer(job.__globals__).unit(matching[0]) if len(matching) == 1 else None
        _bodies[id(cls)] = (cls, unit)
    return _bodies[id(cls)][1]


class _Writer:
    """Writes the normalised text of a syntax tree and collects the names that it looks up."""

    def __init__(self, globals_: dict[str, object]) -> None:
        self.names: set[str] = set()
        self._globals = globals_
        self._pieces: list[str] = []

    def unit(self, node: ast.AST) -> _Unit:
        if isinstance(node, ast.ClassDef):  # methods count under their own names
            methods = ast.FunctionDef | ast.AsyncFunctionDef
            node = ast.ClassDef(
                name=node.name, bases=node.bases, keywords=node.keywords, decorator_list=node.decorator_list,
                body=[part for part in _without_docstring(node.body) if not isinstance(part, methods)],
            )  # fmt: skip
        self._write(node)
        text = "".join(self._pieces).encode("utf-8", "surrogatepass")
        return _Unit(hashlib.blake2b(text, digest_size=32).hexdigest(), frozenset(self.names))

    def _write(self, node: object) -> None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.names.add(node.id)
        if isinstance(node, ast.Constant):
            self._pieces.append(f"<{type(node.value).__name__} {_constant(node.value)}>")
        elif isinstance(node, ast.AST):
            self._pieces.append(f"({type(node).__name__}")
            for name, value in ast.iter_fields(node):
                if name not in _SKIPPED and (value := self._normal(node, name, value)) not in (None, []):
                    self._pieces.append(f" {name}=")
                    self._write(value)
            self._pieces.append(")")
        elif isinstance(node, list):
            self._pieces.append("[")
            for item in node:
                self._write(item)
            self._pieces.append("]")
        else:
            self._pieces.append(repr(node))

    def _normal(self, node: ast.AST, name: str, value: object) -> object:
        """The content of a field, without what is no behaviour."""
        if name == "decorator_list" and isinstance(value, list):
            return [decorator for decorator in value if not self._is_ours(decorator)]
        if not isinstance(value, list) or not value or not isinstance(value[0], ast.stmt):
            return value
        if isinstance(node, ast.ClassDef):  # an annotation is a field there; its type is no behaviour
            return _without_docstring(value)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            value = _without_docstring(value)
        plain = [
            ast.Assign(targets=[part.target], value=part.value) if isinstance(part, ast.AnnAssign) and part.value else part
            for part in value
        ]
        return [part for part in plain if not isinstance(part, ast.AnnAssign)]

    def _is_ours(self, decorator: ast.expr) -> bool:
        """Whether a decorator is ckpt's: its options are no behaviour."""
        value = self._value(decorator.func if isinstance(decorator, ast.Call) else decorator)
        return own_module(value).partition(".")[0] == "ckpt" or marker_kind(value) is not None

    def _value(self, node: ast.expr) -> object:
        if isinstance(node, ast.Attribute):
            return member(self._value(node.value), node.attr)
        return self._globals.get(node.id, UNKNOWN) if isinstance(node, ast.Name) else UNKNOWN


def _without_docstring(statements: list[ast.stmt]) -> list[ast.stmt]:
    first = statements[0] if statements else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return statements[1:]
    return statements


def _constant(value: object) -> str:
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _from_code(code: types.CodeType) -> _Unit:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    names: set[str] = set()
    text = _code_text(code, names)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
    return _Unit(f"bytecode:{version}:{digest}", frozenset(names))


def _code_text(code: types.CodeType, names: set[str]) -> str:
    """Instructions, constants and names of ``code`` and of the code inside it; no lines, no docstring."""
    steps: list[object] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(instruction.argval)
        by_index = instruction.opcode in dis.hasconst  # a docstring shifts these numbers
        content = _constant_text(instruction.argval, names) if by_index else instruction.arg
        steps.append((instruction.opname, content))
    constants = code.co_consts[1:] if _has_docstring(code) else code.co_consts
    parts = [_constant_text(constant, names) for constant in constants if constant is not None]
    return repr((steps, parts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
                 code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS,
                 code.co_exceptiontable.hex()))  # fmt: skip


def _has_docstring(code: types.CodeType) -> bool:
    """Whether the first constant is the docstring; before 3.14 every function keeps that place for it."""
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & _HAS_DOCSTRING)
    function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
    return bool(function and code.co_consts) and isinstance(code.co_consts[0], str | None)


def _constant_text(constant: object, names: set[str]) -> str:
    if isinstance(constant, types.CodeType):
        return _code_text(constant, names)
    if isinstance(constant, tuple):
        return f"({', '.join(_constant_text(part, names) for part in constant)})"
    if isinstance(constant, frozenset):
        return f"{{{', '.join(sorted(_constant_text(part, names) for part in constant))}}}"
    return f"{type(constant).__name__} {_constant(constant)}"
