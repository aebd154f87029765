"""The base of operation-logged classes of your own, and what all operation-logged objects have in common."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ckpt.codecs.pickling import from_bytes, to_bytes
from ckpt.errors import UncapturableError, UnsupportedCodeError
from ckpt.session import current
from ckpt.session.containers import KINDS, LoggedCounter, LoggedDict, LoggedList, Note, Operation
from ckpt.session.values import Sealed, frozen, thawed

F = TypeVar("F", bound=Callable[..., Any])


class Bound:
    """What ties a ``Logged`` object to the log of its run. ``applying``: one of its operations is going on."""

    __slots__ = ("applying", "check", "name", "note")

    def __init__(self, name: str, note: Note, check: Any = None) -> None:
        """``check(object, method, args, kwargs, apply)`` looks over what an operation does; None: nobody does."""
        self.name, self.note, self.check = name, note, check
        self.applying = False

    def operate(self, target: Logged, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        where = f"{self.name}.{method.__name__}"
        given = [frozen(one, f"{where}, argument {number}") for number, one in enumerate(args, 1)]
        named = {key: frozen(one, f"{where}, argument {key}") for key, one in kwargs.items()}
        if self.check is None:
            self.note((self.name, method.__name__, given, named))
            return self._copied(target, self.run(target, method, given, named), where)
        with self.check(target, where, lambda copy: self.run(copy, method, given, named)):
            self.note((self.name, method.__name__, given, named))
            return self._copied(target, self.run(target, method, given, named), where)

    def run(self, target: Logged, method: Callable[..., Any], given: list[Any], named: dict[str, Any]) -> Any:
        """Apply: with copies of arguments that can change, as a replay does it."""
        self.applying = True
        outer = current.begin_try(b"operation")  # marked loops are plain, and operations of other objects refused
        try:
            return method(target, *map(thawed, given), **{key: thawed(one) for key, one in named.items()})
        finally:
            current.end_try(outer)
            self.applying = False

    def _copied(self, target: Logged, result: Any, where: str) -> Any:
        """The result for the caller, who must not hold a part of the object."""
        return result if result is target else thawed(frozen(result, f"{where}, its result"))


class Logged:
    """The base of classes whose changes are operations: methods with ``@ckpt.operation``.

    Such a method must be deterministic and without effects outside: after a kill it is applied again, from the log. What
    it raises it raises again then. Attributes are set in operations only. ``run.logged(Ledger, "name")`` gives the
    object its log; without one it is an ordinary object.
    """

    kind = "logged"
    __slots__ = ("__dict__", "__weakref__", "_bound")

    def __setattr__(self, name: str, value: Any) -> None:
        self._check_applying(name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._check_applying(name)
        object.__delattr__(self, name)

    def _check_applying(self, name: str) -> None:
        bound = bound_of(self)
        if bound is not None and not bound.applying:
            raise UnsupportedCodeError(
                f"attribute {name!r} is changed outside of an operation, which no log would know of",
                where=f"{bound.name} ({type(self).__qualname__})",
                fix="change it in a method with @ckpt.operation",
            )

    def apply(self, operation: Operation) -> None:
        """Do again what was done. What it raised then, it raises again: that was the caller's to see."""
        bound = bound_of(self)
        assert bound is not None
        method = getattr(getattr(type(self), operation[1], None), "__ckpt_operation__", None)
        if method is None:
            raise AttributeError(f"{type(self).__qualname__} has no operation {operation[1]!r} any more")
        with contextlib.suppress(Exception):
            bound.run(self, method, operation[2], operation[3])

    def contents(self) -> Any:
        """The attributes, as their pickle. UncapturableError names the object."""
        bound = bound_of(self)
        try:
            return Sealed(to_bytes(vars(self)))
        except UncapturableError as error:
            where = f"{bound.name if bound is not None else ''} ({type(self).__qualname__})"
            raise UncapturableError(error.what, where=where, fix="keep plain data in it") from error

    def fill(self, contents: Any) -> None:
        values = vars(self)
        values.clear()
        values.update(from_bytes(contents.data))


def bound_of(target: Logged) -> Bound | None:
    """What ties it to a log; None if nothing does."""
    return getattr(target, "_bound", None)


def bind(target: Logged, bound: Bound) -> None:
    object.__setattr__(target, "_bound", bound)


def operation(method: F) -> F:
    """A method of a ``ckpt.Logged`` class as an operation: logged with its arguments, then applied.

    Deterministic, and nothing but a change of the object: after a crash it is applied again. Arguments have to come back
    from their pickle (UncapturableError); they, and the result, are copies where they can change.
    """

    @functools.wraps(method)
    def operate(self: Logged, *args: Any, **kwargs: Any) -> Any:
        bound = bound_of(self)
        if bound is None or bound.applying:
            return method(self, *args, **kwargs)
        return bound.operate(self, method, args, kwargs)

    operate.__ckpt_operation__ = method  # type: ignore[attr-defined]
    return cast(F, operate)


Body = LoggedDict | LoggedList | LoggedCounter | Logged
"""Any operation-logged object."""


def kind_text(kind: type) -> str:
    """How the log names the class of an object."""
    return kind.kind if kind in KINDS.values() else f"{kind.__module__}:{kind.__qualname__}"  # type: ignore[attr-defined]


def name_of(body: Any) -> str | None:
    """The name of an object that belongs to a run."""
    if isinstance(body, Logged):
        bound = bound_of(body)
        return None if bound is None else bound.name
    return cast(str, body._name)
