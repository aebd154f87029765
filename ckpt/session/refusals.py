"""What only shows while loops run, and cannot be resumed exactly: refused, with the fix. Also ways back that went wrong."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from ckpt.asynchrony import running_loop
from ckpt.capture.sharing import UNKNOWN
from ckpt.capture.state import StateCapture
from ckpt.errors import CkptError, OptionError, ReplayDivergedError, UncapturableError, UnsupportedCodeError
from ckpt.format.path import PathNode
from ckpt.session import current
from ckpt.session.conductor import Conductor
from ckpt.session.node import Node
from ckpt.session.sources import StatefulSource

_DIVERGED_FIX = "the code before the loop must take the same way: record what differs with ckpt.step(...), or fresh=True"


def other_loop(saved: PathNode, node: Node, where: str) -> ReplayDivergedError:
    """Where the loop ``saved`` was to be reached, the one at ``node`` was."""
    return ReplayDivergedError(
        f"the resume point lies in loop {saved.site} (for {saved.label}, line {saved.line}), "
        f"but {node.site} (for {node.label}) was reached instead",
        where=where,
        fix=_DIVERGED_FIX,
    )


def not_reached(missed: PathNode, node: Node) -> ReplayDivergedError:
    """The iteration of ``node`` in which ``missed`` was entered the first time went by without it."""
    return ReplayDivergedError(
        f"the resume point lies in loop {missed.site} (line {missed.line}), which iteration {node.plan_index} of "
        f"{node.site} did not reach",
        where=f"line {node.line}",
        fix=_DIVERGED_FIX,
    )


def ended_early(missed: PathNode | None) -> ReplayDivergedError:
    """The job returned on the way back, before it came to ``missed``."""
    where = f" in loop {missed.site}" if missed is not None else ""
    return ReplayDivergedError(f"the job ended before it reached its resume point{where}", fix=_DIVERGED_FIX)


def left_open(inner: Node, outer: Node) -> UnsupportedCodeError:
    """A marked loop was given up without being ended while the one around it went on."""
    return UnsupportedCodeError(
        f"the marked loop at line {inner.line} was left open while the one at line {outer.line} went on",
        where=f"line {outer.line}",
        fix="iterate marked loops in for statements, one inside the other or one after the other",
    )


def refuse_entangled(
    node: Node, remade: list[Any], capture: StateCapture, chain: list[types.FrameType], conductor: Conductor, where: str
) -> None:
    """Refuse an input of ``node``, one of those that the code makes again (``remade``), that leads to an object which
    comes back as another one: with the variables of ``chain``, or with the state of a block."""

    def in_block() -> list[tuple[str, Any]]:
        if chain:  # a job's namespace is put back in place
            return []
        namespaces = conductor.values_to_save().get("namespaces", ())
        return [(f"state.{name}", value) for one in namespaces for name, value in one.items()]

    for iterable in node.remade():
        if isinstance(node.source, StatefulSource) and not hasattr(type(iterable), "__next__"):
            continue  # its class says itself what of it is saved
        shared = capture.shared_with(iterable, chain, remade, in_block)
        if shared is not None:
            raise _entangled(iterable, shared, where)


def _entangled(iterable: Any, shared: str, where: str) -> UnsupportedCodeError:
    """What is said of an ``iterable`` that works on variable ``shared``."""
    kind = type(iterable).__name__
    if shared == UNKNOWN:
        return UnsupportedCodeError(
            f"the {kind} that this loop consumes leads to so many objects, or the variables do, that it cannot be told whether "
            "they share one; what happens to it would not be seen on both sides after a resume",
            where=where,
            fix="loop over a list: ckpt.loop(list(...)); or have the objects made by the iterator itself",
        )
    fix = f"loop over {shared} itself, or over a list: ckpt.loop(list(...))"
    if type(iterable).__module__.partition(".")[0] == "tqdm":
        fix = f"put the bar around the loop: {kind}(ckpt.loop({shared}))"
    elif not shared.startswith("state.") and shared != "self":
        fix += f"; where the job never changes it: @ckpt.job(recreate=({shared!r},))"
    return UnsupportedCodeError(
        f"the {kind} that this loop consumes works on variable {shared!r}, or on something that it leads to, and would "
        "not see what happens to it after a resume",
        where=where,
        fix=fix,
    )


def refuse_tasks(run: Any, chain: list[types.FrameType], recreate: tuple[str, ...]) -> None:
    """Refuse tasks of the job that are at work at a safe point in ``chain``; see ``tasks``."""
    if chain and running_loop() is not None:
        from ckpt.session.tasks import refuse_pending  # loads asyncio, which is there already

        refuse_pending(run, chain, recreate)


def wrong_statement(iterable: Any, right: str) -> UnsupportedCodeError:
    """A marked loop is used by ``for`` where only ``async for`` is right, or the other way round."""
    return UnsupportedCodeError(
        f"a {type(iterable).__qualname__} cannot be iterated by this statement", fix=f"{right} ... in ckpt.loop(...)"
    )


def unrecordable(error: Exception, result: Any, capture: Callable[[Any], object]) -> CkptError:
    """Why ``result`` cannot be recorded, with the fix for what a job returns: ``error`` speaks of a loop's variables."""
    if isinstance(error, CkptError) and not isinstance(error, UncapturableError):
        return error  # no memory, say
    what = error.what if isinstance(error, CkptError) else f"{type(error).__name__}: {error}"
    try:
        capture(None)
    except Exception:  # noqa: BLE001 - as above: whatever a class raises
        # It is not the result, but what is recorded with it: what the caller can see at the end.
        return UncapturableError(what, where="the job's arguments", fix="do not leave in them what cannot be saved")
    if isinstance(result, Coroutine | AsyncIterator):
        fix = "return what comes out of it, and not itself"
    elif isinstance(result, Iterator):
        fix = "return a list of what comes out of it: return list(...)"
    else:
        fix = "return plain data: what cannot be saved can be made of it again"
    return UncapturableError(what, where=f"the {type(result).__qualname__} that it returns", fix=fix)


def refuse_elsewhere(run: Any) -> None:
    """Refuse ``run.checkpoint()`` where it is not the job that calls it."""
    if not run.alive:
        raise OptionError(f"run {run.address} is over", fix="use it inside its job or with block")
    if current.run_of_thread() is not run:
        what = f"checkpoint() of run {run.address} is called in a step or in another thread than the job's"
        raise OptionError(what, fix="call it in the job itself; run.request_checkpoint() may be called from anywhere")
