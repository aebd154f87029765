"""What the source says about marked loops: which calls are marked, where each stands, and what has to be refused.

Guarantees: what is not refused and runs as ``for target in ckpt.loop(...)`` keeps nothing about the loop outside the
loop itself and the function's variables, apart from what ``Facts`` states; a doubt is decided against the shortcut
(``ends_plainly`` and ``collapsible`` are False) or against the code (an error), never in favour of a guess.
"""

from __future__ import annotations

import ast
import copy
import functools
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckpt.capture.held import Path, beside, emptied, given, operands_before, paths_in, waiting, walked
from ckpt.capture.names import MARKED, UNKNOWN, Named, Names, marker_kind, member, own_module
from ckpt.capture.source import COMPREHENSIONS, Scope, Source, nested_scopes, own_nodes
from ckpt.errors import UnsupportedCodeError

For = ast.For | ast.AsyncFor

WRAPPERS = ("tqdm", "rich.progress", "alive_progress", "progressbar")
"""Modules whose callables may stand around a marked loop: what they count is only shown, never used."""
_KEEP = (enumerate, zip, map, filter, reversed)
_FEEDERS = ("join", "extend", "update", "writelines", "fromiter", "fromkeys", "from_iterable", "map", "imap",
            "imap_unordered", "starmap", "submit")  # fmt: skip
"""Methods that use up an iterable; told by name where their object is not known."""

IN_COMPREHENSION = "a marked loop inside a comprehension or generator expression keeps its values where they cannot be saved"
IN_GENERATOR = "a marked loop inside a generator has no place in the job to go back to"
USE_FOR = "use a for statement: for item in ckpt.loop(...): ..."
MARK_CONSUMER = "mark the loop that consumes it instead: for item in ckpt.loop(generator()): ..."


@dataclass(frozen=True, slots=True)
class Facts:
    """What the source says of one marked call; the fields are ``LoopSite``'s."""

    ordinal: int
    kind: str
    label: str
    ends_plainly: bool
    collapsible: bool
    held: tuple[Path, ...]


class Analysis:
    """The marked calls of one function (or module), by source order, with its nested functions for the refusals."""

    def __init__(
        self, source: Source, scope: Scope, globals_: Mapping[str, object], closure: Mapping[str, object]
    ) -> None:
        self.scope = scope
        self._source = source
        self._names = Names(source, scope, globals_, closure)
        self._marked = [call for call in self._calls(scope) if self._names.kind(call, scope) in MARKED]

    def facts(self, call: ast.Call) -> Facts:
        """What the source says of ``call``, which is calling a marker right now.

        A call that the source alone does not show to be marked (``run`` came in as an argument) has a negative
        ordinal: it counts from -1 downwards among all calls of the function, so that it meets no marked one.
        """
        if call in self._marked:
            ordinal = self._marked.index(call)
            kind = self._names.kind(call, self.scope) or "loop"
        else:
            ordinal = -1 - self._calls(self.scope).index(call)
            kind = "checkpoint" if isinstance(call.func, ast.Attribute) and call.func.attr == "checkpoint" else "loop"
        statement = self._for_around(call, self.scope)
        if kind == "loop" and statement is not None:
            plain = not statement.orelse and not any(isinstance(node, ast.Return) for node in _inside(statement))
            label = ast.unparse(statement.target).removeprefix("(").removesuffix(")")
            return Facts(ordinal, kind, label, plain, self._steady(statement), self.held(call, operands=False))
        steady = kind == "checkpoint" and self._steady(_statement(self._source, call))
        return Facts(ordinal, kind, "", False, steady, self.held(call, operands=False))

    def held(self, call: ast.expr, *, operands: bool) -> tuple[Path, ...]:
        """What the interpreter may hold on to while ``call`` runs: what the ``with`` statements and unmarked loops
        around it mention, results and exceptions that wait until it is done, and, with ``operands``, the whole expression
        that it is a part of."""
        found: dict[Path, None] = {}
        child: ast.AST = call
        if operands and isinstance(call, ast.Call) and self._is_of_c(call):
            taken = [*call.args, *(keyword.value for keyword in call.keywords)]
            found.update(dict.fromkeys(path for one in taken for path in given(one)))
            found.update(dict.fromkeys(emptied(call)))
        for parent in self._ancestors(call, self.scope):
            mentioned: list[ast.AST] = []
            if isinstance(parent, ast.With | ast.AsyncWith) and child in parent.body:
                mentioned = list(parent.items)
            elif isinstance(parent, For) and child in parent.body and not self._is_marked(parent.iter, self.scope):
                mentioned = [parent.iter]
                found.update(dict.fromkeys(_walked_by(parent)))
            found.update(dict.fromkeys(waiting(parent, child)))
            if operands:
                kept = operands_before(parent, child)
                found.update(dict.fromkeys(path for one in kept for path in beside(one)))
            if operands and isinstance(child, ast.expr) and isinstance(parent, ast.stmt):
                mentioned = [child, *getattr(parent, "targets", ()), *filter(None, [getattr(parent, "target", None)])]
            for tree in mentioned:
                found.update(dict.fromkeys(paths_in(tree)))
            child = parent
        return tuple(found)

    def _is_of_c(self, call: ast.Call) -> bool:
        """Whether it calls something written in C that may go through what it is given."""
        callee = self._names.value(call.func, self.scope)
        if isinstance(callee, type) and isinstance(member(callee, "__init__"), types.FunctionType):
            return False
        method = getattr(call.func, "attr", "")
        return _use(callee, call.func) in ("keeps", "consumes") or (callee is UNKNOWN and method == "sort")

    def call_is_direct(self, call: ast.Call) -> bool:
        """Whether the interpreter keeps nothing in this function, while ``call`` runs, that may change between calls."""
        statement = _statement(self._source, call)
        whole = {
            ast.Expr: "value", ast.Assign: "value", ast.AnnAssign: "value", ast.Return: "value",
            ast.If: "test", ast.While: "test", ast.For: "iter",
        }.get(type(statement))
        if whole is None:
            return False
        value = getattr(statement, whole)
        called = value.value if isinstance(value, ast.Await) else value
        return called is call and self._steady(statement)

    def check(self) -> None:
        """Raise ``UnsupportedCodeError`` for the first marked loop here, or in a nested function, that has to be."""
        self._check_scope(self.scope)

    def check_call(self, call: ast.Call) -> None:
        """The same for one call that is calling a marker right now."""
        self._check_marked(call, self.scope, self.facts(call).kind)

    def _calls(self, scope: Scope) -> list[ast.Call]:
        calls = [node for node in own_nodes(scope) if isinstance(node, ast.Call)]
        return sorted(calls, key=lambda call: (call.lineno, call.col_offset, -(call.end_col_offset or 0)))

    def _check_scope(self, scope: Scope) -> None:
        for call in self._calls(scope):
            kind = self._names.kind(call, scope)
            if kind in MARKED:
                self._check_marked(call, scope, kind or "")
        for node in own_nodes(scope):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and self._is_marked(node, scope):
                self._check_use(node, scope)
        for node in own_nodes(scope):
            if isinstance(node, ast.Global):
                what = f"it rebinds {', '.join(node.names)} of its module, which is not part of the state"
                fix = "keep it in a variable of the job, or in an object that the job is given"
                raise UnsupportedCodeError(what, where=f"{self._source.filename}:{node.lineno}", fix=fix)
        for nested in nested_scopes(scope):
            self._check_scope(nested)

    def _check_marked(self, call: ast.Call, scope: Scope, kind: str) -> None:
        if any(isinstance(node, COMPREHENSIONS) for node in self._ancestors(call, scope)):
            raise self._refusal(call, IN_COMPREHENSION, "write the comprehension out as a for statement")
        if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(scope)):
            raise self._refusal(call, IN_GENERATOR, MARK_CONSUMER)
        if kind == "loop":
            self._check_input(call, scope)
            self._check_use(call, scope)

    def _check_input(self, call: ast.Call, scope: Scope) -> None:
        if not call.args:
            return
        given = call.args[0]
        made = self._names.value(given.func, scope) if isinstance(given, ast.Call) else None
        if isinstance(given, ast.Set | ast.SetComp) or made is set or made is frozenset:
            inner = given.args[0] if isinstance(given, ast.Call) and given.args else given
            fixed = copy.copy(call)
            fixed.args = [ast.Call(ast.Name("sorted", ast.Load()), [inner], []), *call.args[1:]]
            raise self._refusal(call, "the order of a set differs from process to process", ast.unparse(fixed))

    def _check_use(self, node: ast.expr, scope: Scope) -> None:
        """Refuse what consumes the marked loop ``node`` and keeps a position or values of its own."""
        for child, parent in self._outwards(node, scope):
            if isinstance(parent, ast.comprehension):
                raise self._refusal(node, IN_COMPREHENSION, "write the comprehension out as a for statement")
            if isinstance(parent, ast.YieldFrom):
                raise self._refusal(node, IN_GENERATOR, MARK_CONSUMER)
            if isinstance(parent, ast.Starred | ast.Compare):
                raise self._refusal(node, "a marked loop used up within one expression cannot be resumed", USE_FOR)
            if isinstance(parent, ast.Assign) and any(not _plain(target) for target in parent.targets):
                raise self._refusal(node, "a marked loop unpacked at once cannot be resumed", USE_FOR)
            if isinstance(parent, ast.Call) and child is not parent.func:
                self._check_around(node, parent, scope)

    def _check_around(self, node: ast.expr, around: ast.Call, scope: Scope) -> None:
        callee, text = self._names.value(around.func, scope), ast.unparse(around.func)
        use = _use(callee, around.func)
        if use == "loop":
            raise self._refusal(node, "a marked loop around a marked loop", "mark it once")
        if use == "keeps":
            if isinstance(node, ast.Call) and node.args:
                inner = copy.deepcopy(around)
                _replace(inner, ast.dump(node), node.args[0])
                fixed = copy.copy(node)
                fixed.args = [inner, *node.args[1:]]
                fix = f"put the marked loop outermost: {ast.unparse(fixed)}"
            else:
                fix = f"put the marked loop outermost: ckpt.loop({text}(...))"
            raise self._refusal(node, f"{text}(...) around a marked loop keeps a position that would start again", fix)
        if use == "consumes":
            raise self._refusal(node, f"{text}(...) uses the marked loop up within one call, which cannot be resumed", USE_FOR)

    def _outwards(self, node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, ast.AST]]:
        """(child, parent) from ``node`` outwards while parent's value still is the marked loop, and the first after."""
        child = node
        while child in self._source.parents:
            parent = self._source.parents[child]
            yield child, parent
            through = isinstance(parent, ast.NamedExpr | ast.keyword | ast.BoolOp) or (
                isinstance(parent, ast.IfExp) and child is not parent.test
            )
            if isinstance(parent, ast.Call) and child is not parent.func:
                through = _use(self._names.value(parent.func, scope), parent.func) == "shows"
            if not through:
                return
            child = parent

    def _for_around(self, call: ast.Call, scope: Scope) -> For | None:
        """The for statement whose iterable ``call`` is, directly or inside a progress bar."""
        for child, parent in self._outwards(call, scope):
            if isinstance(parent, For) and child is parent.iter:
                return parent
        return None

    def _is_marked(self, node: ast.expr, scope: Scope, depth: int = 0) -> bool:
        """Whether ``node`` is a marked loop whatever way the code takes."""
        if depth > 8:
            return False
        if isinstance(node, ast.Call):
            if self._names.kind(node, scope) == "loop":
                return True
            shows = _use(self._names.value(node.func, scope), node.func) == "shows"
            return shows and any(self._is_marked(given, scope, depth + 1) for given in [
                *node.args, *(keyword.value for keyword in node.keywords)])
        if isinstance(node, ast.NamedExpr):
            return self._is_marked(node.value, scope, depth + 1)
        if isinstance(node, ast.IfExp):
            return all(self._is_marked(part, scope, depth + 1) for part in (node.body, node.orelse))
        if isinstance(node, ast.Name):
            bound = self._names.bindings(scope).get(node.id, [])
            return bool(bound) and all(
                isinstance(content, ast.expr) and self._is_marked(content, scope, depth + 1) for content in bound
            )
        return False

    def _steady(self, statement: ast.AST) -> bool:
        """Whether what the interpreter keeps on its stack at ``statement`` is the same each time it is reached within
        one iteration of the enclosing marked loop. Iterators of unmarked loops and exceptions being handled are not."""
        child = statement
        for parent in self._ancestors(statement, self.scope):
            if isinstance(parent, For) and child in parent.body:
                return self._is_marked(parent.iter, self.scope)
            if isinstance(parent, ast.ExceptHandler | ast.Match | ast.match_case | ast.expr | ast.comprehension):
                return False
            if isinstance(parent, ast.Try | ast.TryStar) and child in parent.finalbody:
                return False
            child = parent
        return True

    def _ancestors(self, node: ast.AST, scope: Scope) -> Iterator[ast.AST]:
        while node is not scope and node in self._source.parents:
            node = self._source.parents[node]
            if node is scope:
                return
            yield node

    def _refusal(self, node: ast.expr, what: str, fix: str) -> UnsupportedCodeError:
        scope = self._source.enclosing_scope(node)
        name = "<module>" if isinstance(scope, ast.Module) else getattr(scope, "name", "<lambda>")
        return UnsupportedCodeError(what, where=f"{self._source.filename}:{node.lineno} in {name}", fix=fix)


def _use(callee: object, func: ast.expr) -> str:
    """What a callable does with a marked loop that it is given: "shows", "keeps", "consumes", "loop", or "unknown"."""
    return use_of(callee, func.attr if isinstance(func, ast.Attribute) else "")


def use_of(callee: object, method: str) -> str:
    """As ``_use``, for source and byte code alike. ``method`` is the attribute's name if the callee is one."""
    if marker_kind(callee) == "loop":
        return "loop"
    while isinstance(callee, functools.partial):
        callee = callee.func
    module = own_module(callee)
    if any(module == name or module.startswith((f"{name}.", f"{name}_")) for name in WRAPPERS):
        return "shows"
    if callee is UNKNOWN:
        return "consumes" if method in _FEEDERS else "unknown"
    if any(callee is kept for kept in _KEEP) or module.partition(".")[0] == "itertools":
        return "keeps"
    if isinstance(callee, Named):
        return "consumes" if module.partition(".")[0] in sys.stdlib_module_names else "unknown"
    if isinstance(callee, types.FunctionType | types.MethodType):
        return "consumes" if module.partition(".")[0] in sys.stdlib_module_names else "unknown"
    if module.partition(".")[0] in sys.stdlib_module_names:
        return "consumes"
    if isinstance(callee, type):  # it may count, buffer or look ahead; what it keeps would start again
        return "keeps"
    return "unknown" if isinstance(member(type(callee), "__call__"), types.FunctionType) else "consumes"


def _plain(target: ast.expr) -> bool:
    return not isinstance(target, ast.Tuple | ast.List | ast.Starred)


def _walked_by(statement: For) -> Iterator[Path]:
    """What the unmarked loop holds on to; a name that its body gives to another object says so."""
    grown = {id(node.target) for node in _inside(statement) if isinstance(node, ast.AugAssign)}
    bound = {
        node.id for node in _inside(statement)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and id(node) not in grown
    }  # fmt: skip
    for path in walked(statement.iter):
        yield (path[0], ("walked", "rebound")) if len(path) == 2 and path[0] in bound else path


def _statement(source: Source, node: ast.AST) -> ast.AST:
    while not isinstance(node, ast.stmt) and node in source.parents:
        node = source.parents[node]
    return node


def _inside(statement: For) -> Iterator[ast.AST]:
    """The nodes of the loop's body that run as part of the function."""
    return own_nodes(ast.Module(body=statement.body, type_ignores=[]))


def _replace(tree: ast.AST, dumped: str, new: ast.expr) -> None:
    """Put ``new`` in the place of the node that dumps like this."""

    class Swap(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            return new if ast.dump(node) == dumped else self.generic_visit(node)

    Swap().generic_visit(tree)
