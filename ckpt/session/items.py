"""Recognising the input of a loop: marks of items, and what is said when an item is another one."""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ckpt import digests
from ckpt.errors import IdentityError, InputChangedError

if TYPE_CHECKING:
    from ckpt.session.sources import Source

ATOMS = {int, float, str, bytes, bool, complex, type(None)}
"""Types whose values never change."""

_FIX = "give the same input, use key= to identify items by key, or start afresh: fresh=True (of a with block: ckpt rm)"


Mark = list[Any]
"""[digest hex, short text, place]: an item that can be recognised; place -1 is the last consumed item, 0 the next."""


def item_mark(item: Any, place: int) -> Mark | None:
    """The mark of an item, or None if it has no stable digest."""
    try:
        return [digests.digest(item).hex()[:32], short_text(item), place]
    except IdentityError:
        return None


def base_mark(source: Source | None, index: int, last: Any) -> Mark | None:
    """What to recognise the input by when it is started again at ``index``; ``last`` is the last consumed item.

    An item that the job may have changed cannot be recognised in an input that was made again. One that can change is as
    it was made until it is handed out if nobody but a private list ever led to it. Where the job has moved the items of
    its input, nothing is where an input that was made again has it.
    """
    if index > 0 and is_immutable(last):
        return item_mark(last, -1) if _is_at(source, index - 1, last) else None
    if source is not None and source.private:
        known, following = source.item(index)
        return item_mark(following, 0) if known and (source.unshared or is_immutable(following)) else None
    return None


def _is_at(source: Source | None, position: int, item: Any) -> bool:
    """Whether a sequence still has ``item`` where it was taken from; True where it cannot be looked at."""
    if source is None or source.begins != "written" or source.length is None:
        return True
    if source.moved:
        return False
    known, there = source.item(position)
    return known and (there is item or (type(there) is type(item) and bool(there == item)))


def is_immutable(item: Any) -> bool:
    """Whether neither the item nor what it leads to can change, as far as is known."""
    if isinstance(item, (tuple, frozenset)):
        return all(is_immutable(one) for one in item)
    return type(item) in ATOMS or isinstance(
        item, (enum.Enum, pathlib.PurePath, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)
    )


def short_text(item: Any) -> str:
    """A text of at most 60 characters for messages."""
    if isinstance(item, (str, bytes, int, float, bool, complex, type(None))):
        text = repr(item[:60] if isinstance(item, (str, bytes)) else item)
    elif isinstance(item, tuple) and len(item) <= 4:
        text = f"({', '.join(short_text(one) for one in item)})"
    elif isinstance(item, pathlib.PurePath):
        text = str(item)
    else:
        text = f"<{type(item).__qualname__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def check_item(item: Any, mark: Mark | None, position: int, where: str) -> None:
    """InputChangedError if ``item`` is not the one that ``mark`` was made of."""
    now = None if mark is None else item_mark(item, mark[2])
    if mark is not None and now is not None and now[0] != mark[0]:
        raise InputChangedError(
            f"item {position} was {mark[1]} when the checkpoint was taken, and is {now[1]} now",
            where=where,
            fix=_FIX,
        )


def check_base(source: Source, index: int, mark: Mark | None, where: str) -> None:
    """The same for the input that was made again, before it is started at ``index``."""
    if mark is None:
        return
    position = index + mark[2]
    known, item = source.item(position)
    if known:
        check_item(item, mark, position, where)
    elif source.private and source.length is not None and position >= source.length:
        raise InputChangedError(
            f"item {position} was {mark[1]} when the checkpoint was taken, and the input has {source.length} items now",
            where=where,
            fix=_FIX,
        )


def check_length(now: int | None, before: int | None, where: str) -> None:
    """InputChangedError if a block's loop was given an input of another length than before.

    A block's variables do not come back, so the program sees the new input, while the loop would go on with the old one.
    """
    if before is None or now == before:
        return
    raise InputChangedError(
        f"the input had {before} items when the checkpoint was taken, and has {now} items now",
        where=where,
        fix="give the same input, use key= to identify items, or start afresh: fresh=True (of a with block: ckpt rm)",
    )


def appended(done: bytearray, digest: bytes) -> bytearray:
    """``done`` with ``digest`` at its end; another object where something still refers to its memory as it was.

    A state that was pickled by value leaves such a reference behind, in an exception, until the collector comes by.
    """
    try:
        done += digest
    except BufferError:
        return done + digest
    return done


def consume(iterable: Any, count: int | None, passed: Callable[[], None]) -> None:
    """Take ``count`` items (None: all) from an iterator that the re-run code made again for a loop that is over."""
    if hasattr(type(iterable), "__next__"):
        for _ in itertools.islice(iterable, count):
            passed()
