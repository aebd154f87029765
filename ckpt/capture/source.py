"""The source of the program as trees: read once per file and kept, because the file may be edited while the job runs.

Owns the way from a code object, or from an instruction of a running frame, to its place in a syntax tree. A place that
does not fit the code exactly is no place: then the caller works from the byte code.
"""

from __future__ import annotations

import ast
import bisect
import contextlib
import dis
import itertools
import linecache
import types
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module | ast.ClassDef
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
COMPREHENSION_CODES = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
"""Names of the code objects that comprehensions are compiled to, where they have one of their own."""
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)

PARSE_TRIES = 20

Place = tuple[int | None, int | None, int | None, int | None]
"""Line, end line, column, end column (UTF-8 bytes) of an instruction."""


class Source:
    """One file's syntax tree, with the parent of each node, and its functions and calls by place."""

    def __init__(self, filename: str, tree: ast.Module) -> None:
        self.filename = filename
        self.tree = tree
        self.parents: dict[ast.AST, ast.AST] = {}
        self._functions: dict[tuple[str, int], list[Function]] = {}
        self._calls: dict[Place, ast.Call] = {}
        self._expressions: dict[Place, ast.expr] = {}
        for node in ast.walk(tree):
            # Before 3.13 the exit of a with statement stands where the whole statement does.
            stands = node.items[0].context_expr if isinstance(node, ast.With | ast.AsyncWith) else node
            if isinstance(node, ast.expr | ast.stmt) and isinstance(stands, ast.expr):
                self._expressions.setdefault(_place(node), stands)
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            if isinstance(node, ast.Call):
                for place in _places(node):
                    self._calls[place] = node
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                self._functions.setdefault((function_name(node), first_line(node)), []).append(node)

    def scope_of(self, code: types.CodeType) -> Function | ast.Module | None:
        """The node that ``code`` was compiled from; None if there is none at its place."""
        if code.co_name == "<module>":
            return self.tree
        found = self._functions.get((code.co_name, code.co_firstlineno), [])
        if len(found) > 1:  # lambdas on one line: the one that all its instructions lie in
            found = [node for node in found if _holds(node, code)]
        return found[0] if len(found) == 1 else None

    def call_at(self, place: Place) -> ast.Call | None:
        """The call whose instruction has exactly this place."""
        return self._calls.get(place)

    def expression_at(self, place: Place) -> ast.expr | None:
        """The same for any expression: a comprehension, an operator and a property are calls of a kind, too."""
        return self._calls.get(place) or self._expressions.get(place)

    def enclosing_scope(self, node: ast.AST) -> Scope:
        """The function, class or module whose own body holds ``node``."""
        while node in self.parents:
            child, node = node, self.parents[node]
            if isinstance(node, _SCOPES) and in_body(node, child):
                return node
        return self.tree


def load(
    code: types.CodeType, globals_: dict[str, object], place: Place | None = None
) -> tuple[Source, Function | ast.Module] | None:
    """The source that holds ``code`` and the node of it; None where there is no source, or where it does not fit.

    With ``place`` given, it fits only if a call stands exactly there. A file that was edited or reloaded is read
    again when what was read before does not fit; both versions are kept.
    """
    for fresh in (False, True):
        for source in _read(code.co_filename, globals_, fresh):
            scope = source.scope_of(code)
            if scope is not None and (place is None or source.call_at(place) is not None):
                return source, scope
    return None


def expression_of(
    code: types.CodeType, offset: int, globals_: dict[str, object]
) -> tuple[Source, ast.expr] | None:
    """The expression that the instruction at ``offset`` is a part of, in a function or a comprehension's own code."""
    place = place_of(code, offset)
    for fresh in (False, True):
        for source in _read(code.co_filename, globals_, fresh):
            node = source.expression_at(place)
            if node is None:
                continue
            if code.co_name in COMPREHENSION_CODES or source.scope_of(code) is source.enclosing_scope(node):
                return source, node
    return None


def place_of(code: types.CodeType, offset: int) -> Place:
    """Where in the source the instruction at ``offset`` (``frame.f_lasti``) stands."""
    return next(itertools.islice(code.co_positions(), offset // 2, None), (None, None, None, None))


def instruction_at(code: types.CodeType, offset: int) -> dis.Instruction | None:
    """The instruction at ``offset``; before 3.12 the offset may point into the instruction's inline cache."""
    instructions = list(dis.get_instructions(code))
    index = bisect.bisect_right([instruction.offset for instruction in instructions], offset) - 1
    return instructions[index] if index >= 0 else None


def own_nodes(scope: Scope) -> Iterator[ast.AST]:
    """The nodes of a function's, class's or module's own body, in source order; nested functions and classes are
    yielded, but what their own bodies hold is not. Comprehensions count as part of the body."""
    body: list[ast.AST] = [scope.body] if isinstance(scope, ast.Lambda) else list(scope.body)
    pending = body[::-1]
    while pending:
        node = pending.pop()
        yield node
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, _SCOPES):
            children = [child for child in children if not in_body(node, child)]
        pending.extend(reversed(children))


def nested_scopes(scope: Scope) -> Iterator[Scope]:
    """The functions, lambdas and classes defined directly in ``scope``."""
    return (node for node in own_nodes(scope) if isinstance(node, _SCOPES))


def in_body(scope: ast.AST, child: ast.AST) -> bool:
    """Whether ``child`` runs inside ``scope`` (and not where it is defined: decorators, defaults, annotations)."""
    if isinstance(scope, ast.Lambda):
        return child is scope.body
    return isinstance(child, ast.stmt)


def function_name(node: Function) -> str:
    return "<lambda>" if isinstance(node, ast.Lambda) else node.name


def first_line(node: Function | ast.ClassDef) -> int:
    """The line that the code object calls its first: the first decorator's, if there is one."""
    if isinstance(node, ast.Lambda) or not node.decorator_list:
        return node.lineno
    return node.decorator_list[0].lineno


_versions: dict[str, list[tuple[str, Source]]] = {}


def _read(filename: str, globals_: dict[str, object], fresh: bool) -> list[Source]:
    versions = _versions.setdefault(filename, [])
    if fresh or not versions:
        linecache.checkcache(filename)
        text = "".join(linecache.getlines(filename, globals_))
        if text and text not in (known for known, _ in versions):
            try:
                versions.append((text, Source(filename, _parsed(text))))
            except SyntaxError:
                return []  # not what the code was compiled from: the byte code is all there is
    return [source for _, source in versions]


def _parsed(text: str) -> ast.Module:
    """Where another thread parses meanwhile (to print a traceback, say), CPython 3.11 may refuse both for nothing
    (python/cpython#106905)."""
    for _ in range(PARSE_TRIES - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)


def _place(node: ast.expr | ast.stmt) -> Place:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _places(call: ast.Call) -> list[Place]:
    end_line, end_column = call.end_lineno, call.end_col_offset
    places = [_place(call)]
    func = call.func
    if isinstance(func, ast.Attribute) and func.end_lineno != call.lineno:
        # The compiler puts a method call whose name is on a later line where the name is.
        column = (func.end_col_offset or 0) - len(func.attr)
        places.append((func.end_lineno, end_line, column, end_column))
    return places


def _holds(node: Function, code: types.CodeType) -> bool:
    start, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    known = [place for place in code.co_positions() if None not in place and place[3] != 0]
    return bool(known) and all(
        start <= (line or 0, column or 0) and (end_line or 0, end_column or 0) <= end
        for line, end_line, column, end_column in known
    )
