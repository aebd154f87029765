"""``ckpt.Failed``: what stands in for the result of an item that failed. Light: part of the front door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Failed:
    """An item without a result: its last ``error``, after so many ``attempts`` (executions that began)."""

    item: Any
    error: BaseException
    attempts: int
