"""What the byte code says about marked loops, for code without source: the same refusals, fewer facts.

Runs the instructions once, in order, on a stack of what is known about each value; no instruction is executed.
Guarantees: a marked loop that is passed to a callable, unpacked, or used by a comprehension in plain sight is refused
as it would be from source, on every supported version of Python.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ckpt.capture.analysis import IN_COMPREHENSION, IN_GENERATOR, MARK_CONSUMER, USE_FOR, use_of
from ckpt.capture.names import MARKED, RUN, UNKNOWN, imported, makes_run, marker_kind, member, own_name
from ckpt.errors import UnsupportedCodeError

_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_SUSPENDS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_WRITE_OUT = "write the comprehension out as a for statement"
_CALLS = ("CALL", "CALL_KW", "CALL_FUNCTION_EX")
_ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD",
         "JUMP_BACKWARD_NO_INTERRUPT", "INTERPRETER_EXIT")  # fmt: skip
_NOTHING = ("PRECALL", "KW_NAMES", "CACHE", "EXTENDED_ARG", "RESUME", "NOP", "COPY_FREE_VARS", "MAKE_CELL",
            "SETUP_ANNOTATIONS", "DELETE_FAST", "DELETE_NAME", "DELETE_DEREF")  # fmt: skip


@dataclass(slots=True, eq=False)
class _Slot:
    """What is known of one value on the stack."""

    value: object = UNKNOWN
    loop: bool = False  # a marked loop, or its iterator
    null: bool = False
    unordered: bool = False  # a set
    comprehension: bool = False  # the function of a comprehension
    method: str = ""


@dataclass(frozen=True, slots=True)
class MarkedCall:
    """A call of a marker: the offset of its instruction, its kind and line."""

    offset: int
    kind: str
    line: int


def marked_calls(
    code: types.CodeType, globals_: Mapping[str, object], closure: Mapping[str, object], running: int | None = None
) -> list[MarkedCall]:
    """The calls of markers in ``code``, in order; ``running`` is the offset of one that is known to be.

    Raises ``UnsupportedCodeError`` for what cannot be resumed, in ``code`` or in a function defined in it.
    """
    scan = _Scan(code, globals_, closure, running)
    scan.run()
    inner = {**closure, **{name: slot.value for name, slot in scan.variables.items()}}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            marked_calls(constant, globals_, inner)
    return scan.found


def call_index(code: types.CodeType, offset: int) -> int:
    """Which of the calls in ``code``, in order, stands at ``offset``."""
    offsets = [instruction.offset for instruction in dis.get_instructions(code) if instruction.opname in _CALLS]
    return sum(1 for known in offsets if known < offset)


class _Scan:
    def __init__(
        self,
        code: types.CodeType,
        globals_: Mapping[str, object],
        closure: Mapping[str, object],
        running: int | None,
    ) -> None:
        self.found: list[MarkedCall] = []
        self.variables: dict[str, _Slot] = {}
        self._code, self._globals, self._closure, self._running = code, globals_, closure, running
        self._stack: list[_Slot] = []
        self._below: list[tuple[MarkedCall, list[_Slot]]] = []  # what lay on the stack when a marker was called
        self._line = code.co_firstlineno

    def run(self) -> None:
        arriving: dict[int, list[_Slot]] = {}
        reached = True
        for instruction in dis.get_instructions(self._code):
            if not reached:
                self._stack = list(arriving.get(instruction.offset, []))
            self._line = (instruction.positions and instruction.positions.lineno) or self._line
            if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
                before = list(self._stack)
                self._shift(dis.stack_effect(instruction.opcode, instruction.arg, jump=True))
                arriving.setdefault(instruction.argval, self._stack)
                self._stack = before
            self._step(instruction)
            reached = instruction.opname not in _ENDS

    def _step(self, instruction: dis.Instruction) -> None:
        name = instruction.opname
        if name in _NOTHING:
            return
        if name in _CALLS:
            self._call(instruction)
        elif (handler := _HANDLERS.get(name)) is not None:
            handler(self, instruction)
        elif name.startswith("STORE_FAST_"):  # two in one: STORE_FAST_STORE_FAST, STORE_FAST_LOAD_FAST
            self._keep(instruction.argval[0], self._pop())
            if name == "STORE_FAST_LOAD_FAST":
                self._push(self._variable(instruction.argval[1]))
            else:
                self._keep(instruction.argval[1], self._pop())
        elif name == "LOAD_FAST_LOAD_FAST":
            for variable in instruction.argval:
                self._push(self._variable(variable))
        elif name.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_NAME", "LOAD_CLASSDEREF")):
            self._push(self._variable(instruction.argval))
        elif name.startswith(("STORE_FAST", "STORE_DEREF", "STORE_NAME")):
            self._keep(instruction.argval, self._pop())
        else:
            self._shift(dis.stack_effect(instruction.opcode, instruction.arg, jump=False))

    def _pop(self) -> _Slot:
        return self._stack.pop() if self._stack else _Slot()

    def _push(self, slot: _Slot) -> None:
        self._stack.append(slot)

    def _shift(self, effect: int) -> None:
        """What an instruction does that is not modelled: its results are unknown."""
        for _ in range(-effect):
            self._pop()
        for _ in range(effect):
            self._push(_Slot())
        if effect <= 0 and self._stack:
            self._stack[-1] = _Slot(loop=self._stack[-1].loop and effect < 0)

    def _variable(self, name: str) -> _Slot:
        known = self.variables.get(name)
        if known is not None:
            return known
        for space in (self._closure, self._globals, vars(builtins)):
            if name in space:
                return _Slot(space[name])
        return _Slot()

    def _keep(self, name: str, slot: _Slot) -> None:
        known = self.variables.get(name)
        if known is None or slot.loop or slot.value is RUN or marker_kind(slot.value) is not None:
            self.variables[name] = slot
        elif not (known.loop or known.value is RUN or marker_kind(known.value) is not None):
            self.variables[name] = _Slot()  # bound twice: only running would tell

    def _refusal(self, what: str, fix: str, line: int | None = None) -> UnsupportedCodeError:
        where = f"{self._code.co_filename}:{line or self._line} in {self._code.co_name}"
        return UnsupportedCodeError(what, where=where, fix=fix)

    def _global(self, instruction: dis.Instruction) -> None:
        name = instruction.argval
        slot = _Slot()
        for space in (self._globals, vars(builtins)):
            if name in space:
                slot = _Slot(space[name])
                break
        self._with_null(slot, bool((instruction.arg or 0) & 1))

    def _with_null(self, slot: _Slot, null: bool) -> None:
        pair = [slot, _Slot(null=True)] if null else [slot]
        for part in pair if sys.version_info >= (3, 13) else reversed(pair):
            self._push(part)

    def _attribute(self, instruction: dis.Instruction) -> None:
        base = self._pop()
        slot = _Slot(member(base.value, instruction.argval), method=instruction.argval)
        as_method = instruction.opname == "LOAD_METHOD" or (
            sys.version_info >= (3, 12) and bool((instruction.arg or 0) & 1)
        )
        self._push(slot)
        if as_method:  # the object, or nothing: of no interest either way
            self._push(_Slot(null=True))

    def _call(self, instruction: dis.Instruction) -> None:
        count = instruction.arg or 0
        if instruction.opname == "CALL_FUNCTION_EX":
            count = 1 + (count & 1)
        elif instruction.opname == "CALL_KW":
            self._pop()
        given = [self._pop() for _ in range(count)][::-1]
        second, first = self._pop(), self._pop()
        callee = second if first.null else first
        if not first.null and not second.null:
            given.insert(0, second)  # a comprehension's iterator lies where a method's object would
        kind = marker_kind(callee.value)
        if instruction.offset == self._running and kind not in MARKED:
            kind = "checkpoint" if callee.method == "checkpoint" else "loop"
        if kind in MARKED:
            self._push(self._marked(instruction, kind or "", given))
        elif callee.comprehension and any(slot.loop for slot in given):
            raise self._refusal(IN_COMPREHENSION, _WRITE_OUT)
        elif any(slot.loop for slot in given):
            self._push(self._around(callee))
        else:
            made = callee.value
            self._push(_Slot(RUN if makes_run(made) else UNKNOWN, unordered=made is set or made is frozenset))

    def _marked(self, instruction: dis.Instruction, kind: str, given: list[_Slot]) -> _Slot:
        if self._code.co_name in _COMPREHENSIONS:
            raise self._refusal(IN_COMPREHENSION, _WRITE_OUT)
        if self._code.co_flags & _SUSPENDS:
            raise self._refusal(IN_GENERATOR, MARK_CONSUMER)
        if kind == "loop" and given and given[0].unordered:
            raise self._refusal("the order of a set differs from process to process", "ckpt.loop(sorted(...))")
        if any(slot.loop for slot in given):
            raise self._refusal("a marked loop around a marked loop", "mark it once")
        call = MarkedCall(instruction.offset, kind, self._line)
        self.found.append(call)
        self._below.append((call, list(self._stack)))
        return _Slot(loop=kind == "loop")

    def _around(self, callee: _Slot) -> _Slot:
        use = use_of(callee.value, callee.method)
        name = own_name(callee.value) or callee.method or "a callable"
        if use in ("keeps", "loop"):
            raise self._refusal(f"{name}(...) around a marked loop keeps a position that would start again",
                                f"put the marked loop outermost: ckpt.loop({name}(...))")  # fmt: skip
        if use == "consumes":
            raise self._refusal(f"{name}(...) uses the marked loop up within one call, which cannot be resumed", USE_FOR)
        return _Slot(loop=use == "shows")

    def _collect(self, instruction: dis.Instruction) -> None:
        """LIST_APPEND and the like: a comprehension, when something lies between the collection and the value."""
        self._pop()
        if instruction.opname == "MAP_ADD":
            self._pop()
        depth = instruction.arg or 1
        if depth < 2 or len(self._stack) < depth:
            return
        target = self._stack[-depth]
        if any(slot.loop for slot in self._stack[-depth + 1 :]):
            raise self._refusal(IN_COMPREHENSION, _WRITE_OUT)
        for call, below in self._below:
            if any(slot is target for slot in below):
                raise self._refusal(IN_COMPREHENSION, _WRITE_OUT, call.line)

    def _at_once(self, instruction: dis.Instruction) -> None:
        """Instructions that use a whole iterable up."""
        if self._stack and self._stack[-1].loop:
            raise self._refusal("a marked loop used up within one expression cannot be resumed", USE_FOR)
        self._shift(dis.stack_effect(instruction.opcode, instruction.arg, jump=False))
        if instruction.opname.startswith("UNPACK") and self._stack:
            self._stack[-1] = _Slot()

    def _delegate(self, instruction: dis.Instruction) -> None:
        if self._stack and self._stack[-1].loop:
            raise self._refusal(IN_GENERATOR, MARK_CONSUMER)

    def _drop(self, instruction: dis.Instruction) -> None:
        self._pop()

    def _iterate(self, instruction: dis.Instruction) -> None:
        self._push(_Slot(loop=self._pop().loop))

    def _copy(self, instruction: dis.Instruction) -> None:
        depth = instruction.arg or 1
        self._push(self._stack[-depth] if len(self._stack) >= depth else _Slot())

    def _swap(self, instruction: dis.Instruction) -> None:
        depth = instruction.arg or 2
        self._stack[:0] = [_Slot() for _ in range(depth - len(self._stack))]
        self._stack[-1], self._stack[-depth] = self._stack[-depth], self._stack[-1]

    def _enter(self, instruction: dis.Instruction) -> None:
        manager = self._pop()
        self._push(_Slot())
        self._push(_Slot(manager.value if manager.value is RUN else UNKNOWN))

    def _function(self, instruction: dis.Instruction) -> None:
        code = self._stack[-1].value if self._stack else None
        self._shift(dis.stack_effect(instruction.opcode, instruction.arg, jump=False))
        comprehension = isinstance(code, types.CodeType) and code.co_name in _COMPREHENSIONS
        self._pop()
        self._push(_Slot(comprehension=comprehension))

    def _function_attribute(self, instruction: dis.Instruction) -> None:
        function = self._pop()
        self._pop()
        self._push(function)

    def _import(self, instruction: dis.Instruction) -> None:
        names = self._pop().value
        self._pop()
        module = instruction.argval if names else instruction.argval.partition(".")[0]
        self._push(_Slot(imported(module, None)))

    def _import_from(self, instruction: dis.Instruction) -> None:
        base = self._stack[-1].value if self._stack else UNKNOWN
        self._push(_Slot(member(base, instruction.argval)))

    def _set(self, instruction: dis.Instruction) -> None:
        for _ in range(instruction.arg or 0):
            self._pop()
        self._push(_Slot(unordered=True))


_HANDLERS: dict[str, Callable[[_Scan, dis.Instruction], None]] = {
    "LOAD_GLOBAL": _Scan._global,
    "LOAD_ATTR": _Scan._attribute,
    "LOAD_METHOD": _Scan._attribute,
    "LOAD_CONST": lambda scan, instruction: scan._push(_Slot(instruction.argval)),
    "PUSH_NULL": lambda scan, instruction: scan._push(_Slot(null=True)),
    "POP_TOP": _Scan._drop,
    "GET_ITER": _Scan._iterate,
    "FOR_ITER": lambda scan, instruction: scan._push(_Slot()),
    "COPY": _Scan._copy,
    "SWAP": _Scan._swap,
    "BEFORE_WITH": _Scan._enter,
    "LIST_APPEND": _Scan._collect,
    "SET_ADD": _Scan._collect,
    "MAP_ADD": _Scan._collect,
    "LIST_EXTEND": _Scan._at_once,
    "SET_UPDATE": _Scan._at_once,
    "UNPACK_SEQUENCE": _Scan._at_once,
    "UNPACK_EX": _Scan._at_once,
    "CONTAINS_OP": _Scan._at_once,
    "GET_YIELD_FROM_ITER": _Scan._delegate,
    "GET_AITER": _Scan._iterate,
    "MAKE_FUNCTION": _Scan._function,
    "SET_FUNCTION_ATTRIBUTE": _Scan._function_attribute,
    "IMPORT_NAME": _Scan._import,
    "IMPORT_FROM": _Scan._import_from,
    "BUILD_SET": _Scan._set,
}
