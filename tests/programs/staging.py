"""How a test program finds out what changed in its arrays: ``STAGING`` in its environment says it, for the whole process.

Sizes are small there, so that arrays of a few pages take the whole path: they are watched one by one, stored in many
chunks, patched, deduplicated, and stored afresh when they are in too many packs.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from ckpt.snapshot import SnapshotWriter, layout, reader
from ckpt.snapshot.reference import Packed
from ckpt.staging import Stager, stager
from ckpt.staging.pages import WrittenPages

STRATEGIES = ("copy", "compare", "pages", "auto", "streaming")
"""``streaming``: the memory limit is too small for any copy; the other names are those of ``Stager.strategy``."""

MIXED = "mixed"
"""As the machine has it, and every fourth state is streamed: as where the memory limit is too small for some states."""

LIMIT = "300KiB"


def missing(strategy: str) -> str:
    """Why this machine cannot do so; empty if it can."""
    if strategy == "pages":
        try:
            WrittenPages().close()
        except OSError as error:
            return f"this kernel does not tell written pages: {error}"
    return ""


def make_small(setattr_: Callable[[Any, str, int], object]) -> None:
    """The small sizes. What was written with them can only be read with them."""
    setattr_(stager, "LARGE_BUFFER", 16 * 1024)
    setattr_(stager, "SMALL_STATE", 4 * 1024)
    setattr_(layout, "CHUNK_SIZE", 8 * 1024)
    setattr_(layout, "ALIGNED_FROM", 64 * 1024)
    setattr_(layout, "MAX_PACKS", 7)
    setattr_(reader, "DIRECT_SIZE", 8 * 1024)


def chosen() -> dict[str, Any]:
    """Do as ``STAGING`` says; the options that a job needs for it. At its end the process prints ``WROTE <json>``:
    how many snapshots it wrote into packs, how many of them with patches, and how many from the job's own memory."""
    strategy = os.environ.get("STAGING", "auto")
    make_small(setattr)
    _count_snapshots()
    if strategy == "streaming":
        return {"memory_limit": LIMIT, "validate": True}
    if strategy == MIXED:
        asked = itertools.count()  # a state that does not fit is asked for twice
        Stager.fits = lambda *_: next(asked) % 5 < 3  # type: ignore[method-assign]
        return {"validate": True}
    Stager.strategy = strategy  # type: ignore[assignment]
    return {}


def _count_snapshots() -> None:
    write, counts = SnapshotWriter.write, Counter({"packed": 0, "patched": 0, "live": 0})

    def counting(self: SnapshotWriter, state: Any) -> Any:
        ref = write(self, state)
        if isinstance(ref.body, Packed):
            counts.update(packed=1, patched=int(ref.body.patched), live=int(state.is_live))
        return ref

    SnapshotWriter.write = counting  # type: ignore[method-assign]
    atexit.register(lambda: print(f"WROTE {json.dumps(counts)}", flush=True))
