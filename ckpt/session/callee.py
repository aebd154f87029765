"""What a step calls: the part of an operation's identity that the callable itself brings.

Two callables with one name can do different things: partials of one function, methods of two objects, functions made in
a loop. What partials and defaults bind is part of the identity. What may change from call to call or has no digest (an
object, a closure) is remembered as the ``carrier``: in the job's own thread the order of calls tells such calls apart, in
other threads nothing does, and a second one with equal arguments is refused.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckpt import digests
from ckpt.digests.canonical import qualified_name
from ckpt.errors import IdentityError


@dataclass(frozen=True, slots=True)
class Callee:
    """``name`` as people see it, ``identity`` in all processes, and the ``carrier`` that is not part of it (or None)."""

    name: str
    identity: str
    carrier: Any = None


@dataclass(slots=True)
class Calls:
    """Calls in one place with equal names and arguments: how many, of what, and whether all in the job's own thread."""

    count: int = 0
    carrier: Any = None
    in_order: bool = True


def callee_of(function: Callable[..., Any], name: str | None, *, keyed: bool) -> Callee:
    """What a call of ``function`` now is. ``name`` stands for its own; ``keyed``: the caller identifies the call.

    IdentityError for an argument bound by a partial that has no digest.
    """
    inner, bound = _unwrapped(function)
    shown = name or str(getattr(inner, "__qualname__", type(inner).__qualname__))
    identity = name or _full_name(inner)
    if keyed:
        return Callee(shown, identity)
    defaults = _plain_values(inner)
    if not bound and not defaults:
        return Callee(shown, identity, _carrier(inner))
    try:
        carried = digests.digest((bound, defaults)).hex()[:32]
    except IdentityError as error:
        fix = "identify the call: ckpt.step(fn, key=...)"
        raise IdentityError(error.what, where=f"step {shown}, argument bound by partial", fix=fix) from error
    return Callee(shown, f"{identity}~{carried}", _carrier(inner))


def note_call(calls: Calls, callee: Callee, *, in_order: bool) -> int:
    """Count a call; how many came before it. IdentityError if a resume could take it for one of those."""
    if calls.count and calls.carrier is not callee.carrier and not (in_order and calls.in_order):
        raise IdentityError(
            f"two calls of {callee.name} with equal arguments, of different objects and in different threads, "
            "cannot be told apart after a resume",
            where=f"step {callee.name}",
            fix="identify the call: ckpt.step(fn, key=...)",
        )
    calls.carrier, calls.in_order = callee.carrier, calls.in_order and in_order
    calls.count += 1
    return calls.count - 1


def full_name_of(function: Any) -> str:
    """The name, in all processes, of what is called, whatever partials bind."""
    return _full_name(_unwrapped(function)[0])


def _unwrapped(function: Any) -> tuple[Any, list[Any]]:
    """What partials lead to, and the arguments that they bind, outermost first."""
    bound: list[Any] = []
    while isinstance(function, functools.partial):
        bound += [function.args, function.keywords]
        function = function.func
    return function, bound


def _full_name(function: Any) -> str:
    if isinstance(function, types.MethodType):
        return f"{qualified_name(type(function.__self__))}.{function.__func__.__qualname__}"
    if hasattr(function, "__qualname__") and isinstance(getattr(function, "__module__", None), str):
        return qualified_name(function)
    return qualified_name(type(function))


def _plain_values(function: Any) -> list[tuple[str, Any]]:
    """The numbers and texts among the defaults: ``lambda i=i: ...`` made in a loop."""
    if not isinstance(function, types.FunctionType):
        return []
    found = [(f"default {i}", value) for i, value in enumerate(function.__defaults__ or ())]
    found += sorted((function.__kwdefaults__ or {}).items())
    return [(name, value) for name, value in found if type(value) in digests.IMMUTABLE]


def _carrier(function: Any) -> Any:
    """What the callable holds besides; None for a function that is the same wherever it is named."""
    if isinstance(function, types.FunctionType):
        return function if function.__closure__ else None
    owner = getattr(function, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        return None if hasattr(function, "__qualname__") else function
    return owner
