"""What only shows while loops run, and cannot be resumed exactly: refused, with the fix."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

from ckpt.errors import UnsupportedCodeError
from ckpt.session import current
from ckpt.session.node import Node
from ckpt.session.sources import works_on


def left_open(inner: Node, outer: Node) -> UnsupportedCodeError:
    """A marked loop was given up without being ended while the one around it went on."""
    return UnsupportedCodeError(
        f"the marked loop at line {inner.line} was left open while the one at line {outer.line} went on",
        where=f"line {outer.line}",
        fix="iterate marked loops in for statements, one inside the other or one after the other",
    )


def refuse_entangled(iterable: Any, variables: Mapping[str, Any], where: str) -> None:
    """Refuse an input, made again by the code, that holds on to an object which comes back as another one."""
    name = works_on(iterable, variables)
    if name is not None:
        raise UnsupportedCodeError(
            f"the {type(iterable).__name__} that this loop consumes works on variable {name!r}, and would not see "
            "what happens to it after a resume",
            where=where,
            fix=f"loop over {name} itself, or over a list: ckpt.loop(list(...))",
        )


def refuse_tasks(run: Any, chain: list[types.FrameType], recreate: tuple[str, ...]) -> None:
    """Refuse tasks of the job that are at work at a safe point in ``chain``; see ``tasks``."""
    if chain and current.running_loop() is not None:
        from ckpt.session.tasks import refuse_pending  # loads asyncio, which is there already

        refuse_pending(run, chain, recreate)


def wrong_statement(iterable: Any, right: str) -> UnsupportedCodeError:
    """A marked loop is used by ``for`` where only ``async for`` is right, or the other way round."""
    return UnsupportedCodeError(
        f"a {type(iterable).__qualname__} cannot be iterated by this statement", fix=f"{right} ... in ckpt.loop(...)"
    )
