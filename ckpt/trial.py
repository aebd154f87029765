"""What a trial of ``ckpt bench`` leaves behind: one line of JSON for every event of the jobs in this process.

``CKPT_TRIAL`` names the folder of the trial; ``trace_of`` is the file in it. Lines are appended whole, by all processes
of the trial; times are those of ``time.monotonic``, which processes of one machine share. Nothing is durable.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ckpt import events, host

KEPT = ("address", "number", "reason", "where", "stall_s", "persist_s", "interval_s", "nbytes", "stored_nbytes", "attempt")
"""The details of events that a trial is about."""

_watched: set[str] = set()


def trace_of(folder: str | os.PathLike[str]) -> Path:
    """The file that the events of the trial in ``folder`` are written to."""
    return Path(folder) / "trace"


def watch(folder: str | None) -> None:
    """A job is called: write that, and the events of this process from now on. None: do nothing. OSError."""
    if folder is None:
        return
    if folder not in _watched:
        _watch(folder)
    events.emit("called")


def _watch(folder: str) -> None:
    _watched.add(folder)
    descriptor = os.open(trace_of(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    clock = host.SystemClock()

    def write(name: str, details: dict[str, Any]) -> None:
        kept = {key: details[key] for key in KEPT if key in details}
        line = json.dumps({"event": name, "at": clock.monotonic(), "path": bool(details.get("path")), **kept})
        os.write(descriptor, f"{line}\n".encode())

    events.add_hook(write)
