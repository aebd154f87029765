"""Looks over the operations of a ``Logged`` object (``check=True``): what they read, and whether they are deterministic.

Finds, by name: reading a clock or a source of randomness (calls of built-in functions, seen by ``sys.setprofile``); another
outcome when the same operation is applied to a copy; and changes of the object outside of operations.
"""

from __future__ import annotations

import contextlib
import datetime
import random
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from ckpt import digests
from ckpt.capture.randomness import read_random_state, write_random_state
from ckpt.codecs.pickling import from_bytes, to_bytes
from ckpt.errors import IdentityError, UnsupportedCodeError
from ckpt.session.logged import Logged

_DATES = {(datetime.datetime, "now"), (datetime.datetime, "utcnow"), (datetime.date, "today"), (datetime.datetime, "today")}
_ENTROPY = {("posix", "urandom"), ("posix", "getrandom"), ("nt", "urandom")}
_FIX = "read it outside, and give it to the operation as an argument: the argument is logged"


class Checked:
    """The checks of one object."""

    def __init__(self) -> None:
        self._digest: bytes | None = None

    @contextlib.contextmanager
    def watching(self, target: Logged, where: str, again: Callable[[Logged], Any]) -> Iterator[None]:
        """Around an operation of ``target``; ``again(copy)`` applies the same to another object. UnsupportedCodeError."""
        before = digest_of(target)
        if self._digest is not None and before != self._digest:
            raise UnsupportedCodeError(
                "the object was changed outside of its operations, which no log knows of",
                where=where,
                fix="change it in methods with @ckpt.operation only, and hand out copies of what is inside",
            )
        copy = _copy(target)
        generators = read_random_state()
        with _calls_refused(where):
            yield
        write_random_state(generators)
        with contextlib.suppress(Exception):  # what it raises, the operation itself has raised before
            again(copy)
        self._digest = digest_of(target)
        if digest_of(copy) != self._digest:
            raise UnsupportedCodeError("the operation has another outcome when it is applied again", where=where, fix=_FIX)


def digest_of(target: Logged) -> bytes:
    """The same for equal contents; of what has no stable digest, the pickle."""
    try:
        return digests.digest(vars(target))
    except IdentityError:
        return to_bytes(vars(target))


def _copy(target: Logged) -> Logged:
    copy: Logged = type(target).__new__(type(target))
    vars(copy).update(from_bytes(to_bytes(vars(target))))
    return copy


@contextlib.contextmanager
def _calls_refused(where: str) -> Iterator[None]:
    """A block in which calls of clocks and random generators are noticed; they are refused at its end."""
    found: list[str] = []

    def profile(frame: types.FrameType, event: str, called: Any) -> None:
        if event == "c_call" and (what := _reads(called)):
            found.append(what)

    outer = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(outer)
    if found:
        raise UnsupportedCodeError(f"the operation calls {found[0]}, which says something else after a crash", where=where, fix=_FIX)


def _reads(called: Any) -> str | None:
    """What a built-in function reads that a replay would not read again; None: nothing."""
    owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
    module = getattr(called, "__module__", None) or getattr(owner, "__name__", "")
    if module == "time" and name not in ("sleep", "strftime", "strptime", "mktime", "gmtime"):
        return f"time.{name}"
    if (owner, name) in _DATES if isinstance(owner, type) else False:
        return f"{getattr(owner, '__name__', '')}.{name}"
    if (module, name) in _ENTROPY or module == "_uuid":
        return f"os.{name}"
    kind = type(owner)
    if isinstance(owner, random.Random) or kind.__module__.startswith("numpy.random"):
        return f"random.{name}"
    return None
