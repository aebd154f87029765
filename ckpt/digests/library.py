"""Classes of the standard library whose content is not in their attributes.

``TABLE`` rows: module, class, handler, whether a subclass's own attributes count as well. A row applies only where the
program has imported the module; earlier rows win.
"""

from __future__ import annotations

from typing import Any

from ckpt.digests.canonical import Handler, Hash, Walk, binary, tag, text


def _path(walk: Walk, hasher: Hash, value: Any) -> None:
    text(hasher, str(value))


def _datetime(walk: Walk, hasher: Hash, value: Any) -> None:
    text(hasher, value.replace(tzinfo=None).isoformat())
    walk.feed(hasher, value.fold)
    walk.feed(hasher, value.tzinfo, ".{}", "tzinfo")


def _date(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, value.toordinal())


def _timedelta(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, (value.days, value.seconds, value.microseconds))


def _timezone(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, (value.utcoffset(None), value.tzname(None)))


def _zone(walk: Walk, hasher: Hash, value: Any) -> None:
    if value.key is None:
        raise walk.refuse(value, "a time zone without a name has no digest that is the same in every process")
    text(hasher, value.key)


def _decimal(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, tuple(value.as_tuple()))


def _fraction(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, (value.numerator, value.denominator))


def _uuid(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, value.int)


def _random(walk: Walk, hasher: Hash, value: Any) -> None:
    try:
        state = value.getstate()
    except NotImplementedError as error:
        raise walk.refuse(value, "the system's randomness has no state that could be digested") from error
    walk.feed(hasher, state)


def _logger(walk: Walk, hasher: Hash, value: Any) -> None:
    text(hasher, value.name)


def _pattern(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, (value.pattern, value.flags))


def _deque(walk: Walk, hasher: Hash, value: Any) -> None:
    tag(hasher, "deque", len(value))
    walk.feed(hasher, value.maxlen)
    for index, item in enumerate(value):
        walk.feed(hasher, item, "[{}]", index)


def _ordered(walk: Walk, hasher: Hash, value: Any) -> None:
    tag(hasher, "ordered", len(value))
    for key, item in value.items():
        walk.feed(hasher, key, "[key]")
        walk.feed(hasher, item, "[{!r}]", key)


def _default(walk: Walk, hasher: Hash, value: Any) -> None:
    tag(hasher, "default", len(value))
    walk.feed(hasher, value.default_factory, ".{}", "default_factory")
    walk.pairs(hasher, dict.items(value))


def _array(walk: Walk, hasher: Hash, value: Any) -> None:
    text(hasher, value.typecode)
    if value.typecode in "uw":
        text(hasher, value.tounicode())
    else:
        binary(hasher, "array", memoryview(value), len(value) * value.itemsize)


TABLE: list[tuple[str, str, Handler, bool]] = [
    ("pathlib", "PosixPath", _path, True),
    ("pathlib", "WindowsPath", _path, True),
    ("pathlib", "PurePosixPath", _path, True),
    ("pathlib", "PureWindowsPath", _path, True),
    ("datetime", "datetime", _datetime, True),
    ("datetime", "date", _date, True),
    ("datetime", "time", _datetime, True),
    ("datetime", "timedelta", _timedelta, True),
    ("datetime", "timezone", _timezone, True),
    ("zoneinfo", "ZoneInfo", _zone, True),
    ("decimal", "Decimal", _decimal, True),
    ("fractions", "Fraction", _fraction, True),
    ("uuid", "UUID", _uuid, True),
    ("random", "Random", _random, True),
    ("logging", "Logger", _logger, False),
    ("re", "Pattern", _pattern, True),
    ("collections", "deque", _deque, True),
    ("collections", "OrderedDict", _ordered, True),
    ("collections", "defaultdict", _default, True),
    ("array", "array", _array, True),
]
