"""What only shows while loops run, and cannot be resumed exactly: refused, with the fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckpt.errors import UnsupportedCodeError
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
