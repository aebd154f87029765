"""The process-wide random generators: ``random``, ``numpy.random`` and torch, read and set back exactly.

Only libraries that the program has imported are looked at; ckpt itself imports none of them. Reading them all takes some
50 microseconds, which is most of a small step: whether they moved at all is asked of ``random_marks``.
"""

from __future__ import annotations

import array
import functools
import random
import sys
from collections.abc import Callable
from ctypes import string_at
from typing import Any

RandomState = dict[str, Any]
"""Library -> its state in plain, picklable values."""

_HEAD = object.__basicsize__


def random_marks() -> tuple[Any, ...]:
    """Something that is equal to what it was before only if no process-wide generator has moved since.

    Of ``random`` and numpy it is the memory of the generators themselves, where trying out shows that every draw changes it;
    elsewhere it is their state.
    """
    of_random: Any = getattr(random.getstate, "__self__", None)  # None where somebody has put a function in its place
    if of_random is not None and _memory_tells("random"):
        marks: list[Any] = [_memory_of(of_random), of_random.gauss_next]
    else:
        marks = [random.getstate()]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and _memory_tells("numpy"):
        of_numpy = numpy.mtrand._rand
        marks += (_memory_of(of_numpy), _memory_of(of_numpy._bit_generator))
    elif numpy is not None:
        marks.append(_numpy_state(numpy))
    return (*marks, *_torch_states().items())


def _memory_of(value: Any) -> bytes:
    """What the object holds itself, without its head: the number of references to it changes all the time."""
    return string_at(id(value) + _HEAD, type(value).__basicsize__ - _HEAD)


@functools.cache
def _memory_tells(library: str) -> bool:
    """Whether every draw from a generator of ``library`` changes its memory: tried once, on one of our own."""
    if sys.implementation.name != "cpython":
        return False
    if library == "random":
        one: Any = random.Random(7)
        return _sees(lambda: (_memory_of(one), one.gauss_next), [one.random, lambda: one.gauss(0, 1), lambda: one.gauss(0, 1)])
    numpy = sys.modules["numpy.random"]
    own = numpy.RandomState(7)
    # Every second normal number comes from the one before, and leaves the bit generator as it is.
    draws = [own.random_sample, own.standard_normal, own.standard_normal, own.standard_normal]
    return _sees(lambda: (_memory_of(own), _memory_of(own._bit_generator)), draws)


def _sees(look: Callable[[], Any], draws: list[Callable[[], Any]]) -> bool:
    """Whether ``look`` changes with each of ``draws``, and not while nothing is drawn."""
    for draw in draws:
        before = look()
        if look() != before:
            return False
        draw()
        if look() == before:
            return False
    return True


def process_wide() -> dict[str, Any]:
    """The process-wide generators themselves, by name: a variable may hold one, or one of its methods (``random.random``)."""
    found: dict[str, Any] = {"random": getattr(random.getstate, "__self__", None)}
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None:
        found |= {"numpy": numpy.mtrand._rand, "numpy_bits": numpy.mtrand._rand._bit_generator}
    if torch is not None and hasattr(torch, "default_generator"):
        found["torch"] = torch.default_generator
    return found


def read_random_state() -> RandomState:
    """The states of all process-wide generators now."""
    version, words, gauss = random.getstate()
    state: RandomState = {"random": (version, array.array("I", words).tobytes(), gauss)}
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        state["numpy"] = _numpy_state(numpy)
    return state | _torch_states()


def _numpy_state(numpy: Any) -> tuple[Any, ...] | dict[str, Any]:
    if type(numpy.mtrand._rand._bit_generator).__name__ != "MT19937":  # the program has put another one in its place
        state: dict[str, Any] = numpy.get_state(legacy=False)
        return state
    name, keys, position, has_gauss, cached = numpy.get_state(legacy=True)
    return name, keys.tobytes(), position, has_gauss, cached


def _torch_states() -> RandomState:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_rng_state"):
        return {}
    state = {"torch": torch.get_rng_state().numpy().tobytes()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = [one.numpy().tobytes() for one in torch.cuda.get_rng_state_all()]
    return state


def write_random_state(state: RandomState) -> None:
    """Set the generators back. A library that is not imported (yet) is imported: its state would be lost otherwise."""
    version, words, gauss = state["random"]
    random.setstate((version, tuple(array.array("I", words)), gauss))
    if "numpy" in state:
        import numpy

        saved = state["numpy"]
        name = saved["bit_generator"] if isinstance(saved, dict) else saved[0]
        generators: Any = numpy.random
        if type(generators.mtrand._rand._bit_generator).__name__ != name:
            generators.set_bit_generator(getattr(generators, name)())
        if not isinstance(saved, dict):
            saved = (name, numpy.frombuffer(saved[1], dtype=numpy.uint32), *saved[2:])
        numpy.random.set_state(saved)
    if "torch" in state:
        import torch

        torch.set_rng_state(torch.frombuffer(bytearray(state["torch"]), dtype=torch.uint8))
        if "cuda" in state:
            torch.cuda.set_rng_state_all(
                [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in state["cuda"]]
            )
