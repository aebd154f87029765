"""What the tests of snapshots share: a run's key and names, storages of their own, and bytes that do not compress."""

from __future__ import annotations

import random

from ckpt.format.keys import Key
from ckpt.format.names import RunNames
from ckpt.snapshot import layout
from ckpt.storage.memory import MemoryStorage

KEY = Key.from_secret(b"k" * 32)
NAMES = RunNames("sim/häh", "3fa9")
CHUNK = layout.CHUNK_SIZE


def fresh_storage() -> MemoryStorage:
    """A storage that no other test uses."""
    return MemoryStorage(f"snapshot-{random.SystemRandom().getrandbits(64):x}")


def noise(seed: int, size: int) -> bytes:
    """``size`` bytes that are the same for each ``seed``."""
    return random.Random(seed).randbytes(size)
