"""Arrays, frames and tensors, by content: numpy, pandas, polars, torch.

Nothing is imported here: a value of a library can only exist where the program imported the library. Content is
streamed to the hash in C order; only what does not lie so in memory is copied, 64 Ki elements at a time.
``TABLE`` is as in ``library``.
"""

from __future__ import annotations

import sys
from typing import Any

from ckpt.digests.canonical import Handler, Hash, Walk, tag, text

_BLOCK = 1 << 16


def _type_text(dtype: Any) -> str:
    if dtype.subdtype is not None:
        return f"({_type_text(dtype.subdtype[0])},{dtype.subdtype[1]})"
    if dtype.names is not None:
        return "{" + ",".join(f"{name}:{_type_text(dtype.fields[name][0])}" for name in dtype.names) + "}"
    return str(dtype.str)


def _dtype(walk: Walk, hasher: Hash, value: Any) -> None:
    text(hasher, _type_text(value))


def _array(walk: Walk, hasher: Hash, value: Any) -> None:
    numpy = sys.modules["numpy"]
    array = numpy.ndarray.view(value, numpy.ndarray)
    text(hasher, _type_text(array.dtype))
    walk.feed(hasher, tuple(array.shape))
    if array.dtype.names is not None:  # field by field: padding between fields has no content
        for name in array.dtype.names:
            walk.feed(hasher, array[name], "[{!r}]", name)
    elif array.dtype.hasobject or array.dtype.kind == "T":
        for index, item in enumerate(array.flat):
            walk.feed(hasher, item, "[{}]", index)
    elif array.dtype.char in "gG":  # long doubles carry bytes of padding
        for item in array.flat:
            for part in (item.real, item.imag):
                text(hasher, numpy.format_float_scientific(part, unique=True))
    else:
        _raw(hasher, array)


def _raw(hasher: Hash, array: Any) -> None:
    """The bytes of the elements in C order."""
    numpy = sys.modules["numpy"]
    if not array.nbytes:
        return
    if array.flags.c_contiguous:
        hasher.update(array.reshape(-1).view(numpy.uint8))
    else:
        blocks = numpy.nditer(array, flags=["external_loop", "buffered", "zerosize_ok"], order="C", buffersize=_BLOCK)
        for block in blocks:
            hasher.update(numpy.ascontiguousarray(block).view(numpy.uint8))


def _masked(walk: Walk, hasher: Hash, value: Any) -> None:
    numpy = sys.modules["numpy"]
    walk.feed(hasher, numpy.asarray(value.data), ".{}", "data")
    walk.feed(hasher, numpy.ma.getmaskarray(value), ".{}", "mask")
    walk.feed(hasher, numpy.asarray(value.fill_value), ".{}", "fill_value")


def _scalar(walk: Walk, hasher: Hash, value: Any) -> None:
    _array(walk, hasher, sys.modules["numpy"].asarray(value))


def _bit_generator(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, value.state)


def _generator(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, value.bit_generator.state)


def _random_state(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, value.get_state(legacy=False))


def _seed_sequence(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, (value.entropy, tuple(value.spawn_key), value.pool_size, value.n_children_spawned))


def _missing(walk: Walk, hasher: Hash, value: Any) -> None:
    """NA and NaT: their class says all."""


def _timestamp(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, (int(value.value), str(value.unit)))
    walk.feed(hasher, getattr(value, "tzinfo", None), ".{}", "tzinfo")


def _period(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, (value.ordinal, value.freqstr))


def _interval(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, (value.left, value.right, value.closed))


def _values(walk: Walk, hasher: Hash, values: Any) -> None:
    """A pandas array, series or index without its labels."""
    pandas, numpy = sys.modules["pandas"], sys.modules["numpy"]
    dtype = values.dtype
    text(hasher, str(dtype))
    if isinstance(dtype, numpy.dtype):
        _array(walk, hasher, values.to_numpy())
    elif isinstance(dtype, pandas.CategoricalDtype):
        held = getattr(values, "array", values)
        walk.feed(hasher, bool(dtype.ordered))
        _index(walk, hasher, dtype.categories)
        _array(walk, hasher, numpy.asarray(held.codes))
    elif isinstance(dtype, pandas.DatetimeTZDtype):
        walk.feed(hasher, dtype.tz, ".{}", "tz")
        _array(walk, hasher, pandas.Index(values).asi8)
    else:
        tag(hasher, "values", len(values))
        for index, item in enumerate(values):
            walk.feed(hasher, item, "[{}]", index)


def _index(walk: Walk, hasher: Hash, value: Any) -> None:
    pandas = sys.modules["pandas"]
    walk.feed(hasher, list(value.names))
    if isinstance(value, pandas.MultiIndex):
        tag(hasher, "multi", value.nlevels)
        for level in range(value.nlevels):
            _values(walk, hasher, value.get_level_values(level))
    elif isinstance(value, pandas.RangeIndex):
        tag(hasher, "range", len(value))
        walk.feed(hasher, (value.start, value.step)[: len(value)])
    else:
        _values(walk, hasher, value)


def _series(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, value.name, ".{}", "name")
    _index(walk, hasher, value.index)
    _values(walk, hasher, value)


def _frame(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, tuple(value.shape))
    _index(walk, hasher, value.index)
    _index(walk, hasher, value.columns)
    for position in range(value.shape[1]):
        _values(walk, hasher, value.iloc[:, position])


def _polars_series(walk: Walk, hasher: Hash, value: Any) -> None:
    tag(hasher, "series", len(value))
    text(hasher, value.name)
    text(hasher, str(value.dtype))
    if value.dtype.is_numeric() and not value.dtype.is_decimal() and value.null_count() == 0:
        _array(walk, hasher, value.to_numpy())
        return
    for start in range(0, len(value), _BLOCK):
        for index, item in enumerate(value.slice(start, _BLOCK).to_list(), start):
            walk.feed(hasher, item, "[{}]", index)


def _polars_frame(walk: Walk, hasher: Hash, value: Any) -> None:
    walk.feed(hasher, tuple(value.shape))
    for column in value.get_columns():
        _polars_series(walk, hasher, column)


def _tensor(walk: Walk, hasher: Hash, value: Any) -> None:
    torch = sys.modules["torch"]
    if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
        raise walk.refuse(value, "a sparse, quantized or meta tensor has no digest by content")
    text(hasher, str(value.dtype))
    walk.feed(hasher, tuple(value.shape))
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if plain.numel():
        hasher.update(plain.reshape(-1).view(torch.uint8).numpy())


def _torch_name(walk: Walk, hasher: Hash, value: Any) -> None:
    text(hasher, str(value))


def _torch_generator(walk: Walk, hasher: Hash, value: Any) -> None:
    text(hasher, str(value.device))
    walk.feed(hasher, value.get_state())


TABLE: list[tuple[str, str, Handler, bool]] = [
    ("numpy", "memmap", _array, False),
    ("numpy.ma", "MaskedArray", _masked, False),
    ("numpy", "ndarray", _array, True),
    ("numpy", "generic", _scalar, False),
    ("numpy", "dtype", _dtype, False),
    ("numpy.random", "Generator", _generator, False),
    ("numpy.random", "RandomState", _random_state, False),
    ("numpy.random", "BitGenerator", _bit_generator, False),
    ("numpy.random", "SeedSequence", _seed_sequence, False),
    ("pandas", "Timestamp", _timestamp, False),
    ("pandas", "Timedelta", _timestamp, False),
    ("pandas", "Period", _period, False),
    ("pandas", "Interval", _interval, False),
    ("pandas.api.typing", "NaTType", _missing, False),
    ("pandas.api.typing", "NAType", _missing, False),
    ("pandas", "Index", _index, False),
    ("pandas", "Series", _series, False),
    ("pandas", "DataFrame", _frame, False),
    ("pandas.api.extensions", "ExtensionArray", _values, False),
    ("polars", "Series", _polars_series, False),
    ("polars", "DataFrame", _polars_frame, False),
    ("torch", "Tensor", _tensor, True),
    ("torch", "dtype", _torch_name, False),
    ("torch", "device", _torch_name, False),
    ("torch", "Size", _torch_name, False),
    ("torch", "Generator", _torch_generator, False),
]
