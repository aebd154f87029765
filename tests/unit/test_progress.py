"""Progress lines: silent without a terminal, right on one, one display for nested loops."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import textwrap

import pytest

from ckpt.events import span_text

PROGRAM = """
    import sys
    from ckpt.host import SystemClock
    from ckpt.progress import Progress

    class Ticking:
        "Time passes when it is told to, and a little at each look."
        def __init__(self):
            self.t = 1000.0
        def now(self):
            return self.t
        def monotonic(self):
            self.t += 0.001
            return self.t
        def sleep(self, seconds):
            self.t += seconds

    clock = Ticking()
    outer, inner = Progress(clock), Progress(clock)
    outer.start("epoch", 8, 3)
    for epoch in range(4, 7):
        inner.start("batch", None, 0)
        for batch in range(1, 6):
            clock.sleep(2.0)
            inner.advance_to(batch)
            print("from the job", batch)
        inner.checkpointed(clock.now())
        inner.stop()
        inner.advance_to(99)
        outer.advance_to(epoch)
    clock.sleep(7.0)
    outer.stop()
    outer.stop()
    print("rich" in sys.modules)
"""


def run(*, terminal: bool) -> tuple[str, str]:
    """Standard output (a pipe) and standard error (a terminal of 100 columns, or a pipe) of the program."""
    mine, its = pty.openpty()
    environ = os.environ | {"PYTHONPATH": os.getcwd(), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        stdout=subprocess.PIPE,
        stderr=its if terminal else subprocess.PIPE,
        env=environ,
    )
    os.close(its)
    shown = b""
    while terminal:
        try:
            shown += os.read(mine, 65536)
        except OSError:
            break
    out, error = process.communicate()
    os.close(mine)
    assert process.returncode == 0, error or shown
    return out.decode(), (shown if terminal else error).decode()


def test_without_a_terminal_nothing_is_written_and_rich_is_not_imported() -> None:
    out, error = run(terminal=False)
    assert error == ""
    assert out.endswith("False\n")


def test_on_a_terminal_position_rate_time_left_and_last_checkpoint_are_shown() -> None:
    out, shown = run(terminal=True)
    assert out.count("from the job") == 15, "what the job prints into a pipe stays there"
    assert out.endswith("True\n")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    last = [line for line in plain.replace("\r", "\n").split("\n") if "epoch" in line][-1]
    assert re.search(r"epoch\W.* 6 of 8 · 12\.\d s each · 24\.\d s left · saved 7\.\d s ago", last), last
    assert "99" not in plain
    assert "from the job" not in plain


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.00042, "0.42 ms"),
        (0.25, "250 ms"),
        (0.99951, "1.0 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.9, "1 h 00 min"),
        (11220, "3 h 07 min"),
        (187200, "2 d 04 h"),
        (-3, "-3.0 s"),
    ],
)
def test_spans_are_written_with_the_figures_that_matter(seconds: float, text: str) -> None:
    assert span_text(seconds) == text
