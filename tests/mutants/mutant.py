"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """``line`` (one place in ``file``) becomes ``instead``; then ``test`` (of ``where``) fails. ``promise``: of the guarantees.

    ``asks_kernel``: only a kernel that tells written pages lets the test notice it.
    """

    name: str
    promise: str
    file: str
    line: str
    instead: str
    where: str
    test: str
    asks_kernel: bool = False
