"""What a running job says: one line on stderr when it matters, and events for hooks; how it writes spans of time.

Events are (name, details) pairs: ``entered``, ``resumed``, ``checkpoint``, ``finished``, ``preempted``, ``storage-trouble`` ...
"""

from __future__ import annotations

import sys

from ckpt.protocols import Hook

_hooks: list[Hook] = []


def add_hook(hook: Hook) -> None:
    """Call ``hook(name, details)`` for every later event, in the thread where it happens."""
    _hooks.append(hook)


def remove_hook(hook: Hook) -> None:
    _hooks.remove(hook)


def emit(name: str, **details: object) -> None:
    for hook in tuple(_hooks):
        hook(name, details)


def say(message: str) -> None:
    """One line on stderr. A closed stderr must not end a job that runs for hours."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"ckpt: {message}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        emit("unsaid", message=message)


def span_text(seconds: float) -> str:
    """``0.4 ms``, ``250 ms``, ``12.3 s``, ``4 min 05 s``, ``3 h 07 min``, ``2 d 04 h``: two figures that matter."""
    if seconds < 0:
        return "-" + span_text(-seconds)
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms" if seconds else "0 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


