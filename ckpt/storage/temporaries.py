"""Names of unfinished files beside their place, which say who is writing them, so that a dead writer's can be deleted."""

from __future__ import annotations

import functools
import os
import zlib

from ckpt import host
from ckpt.storage.keys import TEMPORARY

LEFTOVER_AGE_S = 3600.0
"""An unfinished file that nobody wrote to for this long is a leftover, whoever made it."""


def own_temporary() -> str:
    """How the names of this process's unfinished files begin: ``.tmp-<host>-<pid>-``."""
    return f"{TEMPORARY}{_host_digest()}-{os.getpid()}-"


def new_temporary() -> str:
    """A name for an unfinished file that nobody has or will have."""
    return f"{own_temporary()}{host.entropy(8).hex()}"


def is_leftover(name: str, age_s: float) -> bool:
    """Whether the file ``name``, last written to ``age_s`` seconds ago, is one that nobody will finish."""
    if not name.startswith(TEMPORARY):
        return False
    if age_s > LEFTOVER_AGE_S:
        return True
    maker, _, pid = name.rpartition("-")[0].rpartition("-")
    return maker == own_temporary().rsplit("-", 2)[0] and pid.isdecimal() and not host.process_alive(int(pid))


@functools.cache
def _host_digest() -> str:
    return f"{zlib.crc32(host.host_name().encode()):08x}"
