"""What cannot be captured: the errors, with what, where and the fix."""

from __future__ import annotations

import types
from typing import Any

from ckpt.capture import explain
from ckpt.errors import UncapturableError


def place(frame: types.FrameType) -> str:
    """Function, file and line, for messages."""
    return f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"


def torn_by_loop(culprit: Any, where: str) -> UncapturableError:
    return UncapturableError(
        f"an unmarked loop around the marked one goes through a {type(culprit).__name__} of it, which would come back as "
        "another object",
        where=where,
        fix="mark that loop, too: for ... in ckpt.loop(...)",
    )


def torn_by_expression(culprit: Any, where: str) -> UncapturableError:
    return UncapturableError(
        f"the expression around a call that leads to a marked loop, or a result or an exception that waits for a finally "
        f"block, holds on to a {type(culprit).__name__}, which would come back as another object",
        where=where,
        fix="make that call a statement of its own; write a comprehension, map(...) or the like as a for statement: "
        "for ... in ckpt.loop(...); return or raise behind the finally block",
    )


def explained(value: Any, name: str, try_pickle: Any, where: str) -> UncapturableError:
    path, culprit, error = explain.find_uncapturable(value, name, try_pickle)
    what = error.what if isinstance(error, UncapturableError) else f"{type(error).__name__}: {error}"
    fix = error.fix if isinstance(error, UncapturableError) and error.fix else explain.advice(culprit, path)
    return UncapturableError(
        f"a {type(culprit).__module__}.{type(culprit).__qualname__} cannot be saved ({what})", where=where + path, fix=fix
    )
