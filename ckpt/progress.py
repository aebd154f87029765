"""Progress of marked loops on a terminal. The only home of rich outside the CLI.

Nothing is imported, started or written unless standard error is a terminal. Loops that are open at the same time share
one display, one line each, in the order in which they were entered.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ckpt.events import span_text
from ckpt.protocols import Clock

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import Task, TaskID


class Progress:
    """One marked loop's line. Use: ``start``, then ``advance_to`` as often as you like, ``stop`` at the loop's end.

    ``checkpointed`` may be called from another thread. After ``stop`` (or without a terminal) every call is a no-op.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._task: TaskID | None = None
        self._done = 0

    def start(self, label: str, total: int | None, position: int) -> None:
        """Show the loop ``label`` at ``position`` of ``total`` items (None: unknown). Rates count from here."""
        if self._task is None and _on_terminal():
            self._done = position
            self._task = _display.enter(self._clock, label, total, position)

    def advance_to(self, position: int) -> None:
        """``position`` items are done."""
        if self._task is not None and position != self._done:
            self._done = position
            _display.advance(self._task, position)

    def checkpointed(self, when: float) -> None:
        """A checkpoint became durable at ``when`` (Unix time, seconds)."""
        if self._task is not None:
            _display.checkpointed(when)

    def stop(self) -> None:
        """Take the line away; with the last loop's line the display ends. Repeatable."""
        if self._task is not None:
            task, self._task = self._task, None
            _display.leave(task)


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class _Display:
    """What all open loops of this process share: one live region of the terminal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: RichProgress | None = None
        self._checkpoint_at: float | None = None
        self._now: Callable[[], float] = lambda: 0.0
        self._starts: dict[TaskID, int] = {}

    def enter(self, clock: Clock, label: str, total: int | None, position: int) -> TaskID:
        with self._lock:
            if self._bars is None:
                self._now = clock.now
                self._bars = self._open(clock)
                self._bars.start()
            task = self._bars.add_task(label, total=total, completed=position)
            self._starts[task] = position
            return task

    def advance(self, task: TaskID, position: int) -> None:
        if self._bars is not None:
            self._bars.update(task, completed=position)

    def checkpointed(self, when: float) -> None:
        self._checkpoint_at = when

    def leave(self, task: TaskID) -> None:
        with self._lock:
            if self._bars is None:
                return
            if len(self._starts) > 1:
                self._bars.remove_task(task)
                del self._starts[task]
            else:
                # The last picture stays on the terminal: where the loop ended and how fast it was.
                self._bars.stop()
                self._bars, self._checkpoint_at = None, None
                self._starts.clear()

    def _open(self, clock: Clock) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        class Facts(TextColumn):
            """Rate, time left and the age of the last checkpoint."""

            def render(self, task: Task) -> Any:
                from rich.text import Text

                return Text(display._facts(task), style="dim", no_wrap=True)

        display = self
        return RichProgress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6, max_width=40)),
            TextColumn("{task.completed:.0f}", table_column=Column(justify="right", no_wrap=True)),
            Facts("", table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
            get_time=clock.monotonic,
            # Prints go above the bars; but what is piped into a file must go on going there.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            expand=True,
            refresh_per_second=8,
        )

    def _facts(self, task: Task) -> str:
        facts = [] if task.total is None else [f"of {task.total:.0f}"]
        done, elapsed_s = task.completed - self._starts.get(task.id, 0), task.elapsed or 0.0
        if done > 0 and elapsed_s > 0:
            rate = done / elapsed_s
            facts.append(f"{rate:.3g}/s" if rate >= 1 else f"{span_text(1 / rate)} each")
            if task.total is not None:
                facts.append(f"{span_text(max(0.0, task.total - task.completed) / rate)} left")
        if self._checkpoint_at is not None:
            facts.append(f"saved {span_text(max(0.0, self._now() - self._checkpoint_at))} ago")
        return " · ".join(facts)


_display = _Display()
