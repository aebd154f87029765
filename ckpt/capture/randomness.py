"""The process-wide random generators: ``random``, ``numpy.random`` and torch, read and set back exactly.

Only libraries that the program has imported are looked at; ckpt itself imports none of them.
"""

from __future__ import annotations

import array
import random
import sys
from typing import Any

RandomState = dict[str, Any]
"""Library -> its state in plain, picklable values."""


def read_random_state() -> RandomState:
    """The states of all process-wide generators now."""
    version, words, gauss = random.getstate()
    state: RandomState = {"random": (version, array.array("I", words).tobytes(), gauss)}
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        name, keys, position, has_gauss, cached = numpy.get_state(legacy=True)
        state["numpy"] = (name, keys.tobytes(), position, has_gauss, cached)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        state["torch"] = torch.get_rng_state().numpy().tobytes()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = [one.numpy().tobytes() for one in torch.cuda.get_rng_state_all()]
    return state


def write_random_state(state: RandomState) -> None:
    """Set the generators back. A library that is not imported (yet) is imported: its state would be lost otherwise."""
    version, words, gauss = state["random"]
    random.setstate((version, tuple(array.array("I", words)), gauss))
    if "numpy" in state:
        import numpy

        name, keys, position, has_gauss, cached = state["numpy"]
        numpy.random.set_state((name, numpy.frombuffer(keys, dtype=numpy.uint32), position, has_gauss, cached))
    if "torch" in state:
        import torch

        torch.set_rng_state(torch.frombuffer(bytearray(state["torch"]), dtype=torch.uint8))
        if "cuda" in state:
            torch.cuda.set_rng_state_all(
                [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in state["cuda"]]
            )
