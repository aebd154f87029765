"""``ckpt demo``: a job is killed with SIGKILL, started again, and ends as if nothing had happened.

Everything that it says was measured in this very run: where each attempt began and was killed comes from the job's own
output, what checkpoints cost from its log. Runs in a temporary folder and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

import ckpt
from ckpt.cli.common import PROBLEM, clean_errors, console
from ckpt.cli.render import cost_text, plain, size_text
from ckpt.events import span_text
from ckpt.host import SystemClock, entropy
from ckpt.store import RunInfo, Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

JOB = Path(__file__).with_name("demo_job.py")
ROUNDS, BATCHES = 6, 150
TOTAL = ROUNDS * BATCHES
PLAIN_S = 4.5
"""How long the job is made to take on this machine when nobody kills it."""

KILLS = ((0.15, 0.3), (0.4, 0.55), (0.65, 0.8), (0.88, 0.96))
"""Each attempt is killed at a random moment between these parts of the whole."""

BAR = 40


@dataclass
class Try:
    """One start of the job: ``first`` and ``last`` are the first and last batch that it did, 0 for none."""

    name: str
    first: int = 0
    last: int = 0
    killed: bool = False
    ended: bool = False
    result: str | None = None
    seconds: float = 0.0
    errors: str = ""

    @property
    def begin(self) -> int:
        """Batches that were there already."""
        return max(0, self.first - 1)


@dataclass
class Stage:
    """What the demo is played on: the folder, the clock, and the size of a batch."""

    folder: Path
    clock: SystemClock
    points: int
    tries: list[Try] = field(default_factory=list)

    def command(self, calls: str) -> list[str]:
        sizes = [str(ROUNDS), str(BATCHES), str(self.points)]
        return [sys.executable, str(self.folder / JOB.name), *sizes, str(self.folder / calls)]

    def environ(self, **more: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("CKPT_")}
        package = str(Path(ckpt.__file__).resolve().parent.parent)
        paths = os.pathsep.join([package, *filter(None, [own.get("PYTHONPATH")])])
        return {**own, "PYTHONPATH": paths, "CKPT_STORE": str(self.folder / "store"), **more}


@click.command()
@clean_errors
def demo() -> None:
    """Watch a job being killed again and again, and end with the right result. Takes less than a minute."""
    out = console()
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="ckpt-demo-") as folder:
        stage = Stage(Path(folder), clock, _points_per_batch(clock))
        # A job is code of its user: what is inside the package is never looked at as one.
        shutil.copy(JOB, stage.folder)
        equal = _play(out, stage)
    if not equal:
        sys.exit(PROBLEM)


def _points_per_batch(clock: SystemClock) -> int:
    """How many points this machine draws in one batch's time."""
    rng, drawn, inside = random.Random(1), 0, 0
    began_s = clock.monotonic()
    while clock.monotonic() - began_s < 0.2:
        for _ in range(1000):
            inside += rng.random() ** 2 + rng.random() ** 2 <= 1.0
        drawn += 1000
    return max(1, round(drawn / (clock.monotonic() - began_s) * PLAIN_S / TOTAL))


def _play(out: Console, stage: Stage) -> bool:
    out.print(plain("A job estimates pi from random points: ", "bold"), end="")
    out.print(f"{ROUNDS} rounds of {BATCHES} batches, two nested marked loops, one recorded step a round.")
    out.print("It is a plain function with @ckpt.job on it; it saves nothing itself.\n")
    out.print("First without ckpt, and left alone:")
    reference = Try("plain")
    with _shown(out) as show:
        _run(stage, reference, show, calls="plain-calls", CKPT_DISABLE="1")
    if reference.result is None:
        return _broken(out, reference)
    out.print("\nNow with ckpt. Each attempt is killed with SIGKILL at a random moment and started again:")
    last = _attempts(out, stage)
    if last.result is None:
        return _broken(out, last)
    out.print("\nAnd once more, after it has finished:")
    again = Try("again")
    with _shown(out) as show:
        _run(stage, again, show, calls="calls")
    info = Store(stage.folder / "store").open("pi")
    out.print()
    return _verdict(out, stage, reference, again, info)


def _attempts(out: Console, stage: Stage) -> Try:
    moments = random.Random(entropy(8))
    for number, (low, high) in enumerate([*KILLS, (2.0, 2.0)], 1):
        current = Try(f"attempt {number}")
        stage.tries.append(current)
        with _shown(out) as show:
            _run(stage, current, show, calls="calls", kill_at=round(moments.uniform(low, high) * TOTAL))
        if not current.killed:
            break
    return current


def _run(
    stage: Stage, current: Try, show: Callable[[Try], None], *, calls: str, kill_at: int = 0, **environ: str
) -> None:
    """Start the job and follow it to its end; kill it once it is at batch ``kill_at``."""
    began_s = stage.clock.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            stage.command(calls), env=stage.environ(**environ), stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                word, _, rest = line.strip().partition(" ")
                if word == "at":
                    current.last = int(rest)
                    current.first = current.first or current.last
                    if kill_at and current.last >= kill_at and not current.killed:
                        process.send_signal(signal.SIGKILL)
                        current.killed = True
                elif word == "result":
                    current.result = rest
                show(current)
        finally:
            process.kill()
            status = process.wait()
        errors.seek(0)
        current.errors = errors.read()
    current.killed, current.ended = status == -signal.SIGKILL, True
    current.seconds = stage.clock.monotonic() - began_s
    show(current)


@contextmanager
def _shown(out: Console) -> Iterator[Callable[[Try], None]]:
    """Draws a try's line: again and again on a terminal, once at its end anywhere else."""
    if not out.is_terminal:
        yield lambda current: out.print(_line(current, 120)) if current.ended else None
        return
    from rich.live import Live

    with Live(console=out, refresh_per_second=15, transient=False) as live:
        yield lambda current: live.update(_line(current, out.width), refresh=current.ended)


def _line(current: Try, width: int) -> Text:
    """``attempt 2   ▒▒▒▒████████✗·······  resumed at 312, killed at 498``."""
    from rich.text import Text

    if current.ended and current.result is not None and not current.first:
        took = f"{span_text(current.seconds)}, the start of Python included"
        return Text(f"  {current.name:<10}the recorded result, at once ({took})", no_wrap=True, overflow="ellipsis")
    cells = max(8, min(BAR, width - 60))
    before, until = current.begin * cells // TOTAL, current.last * cells // TOTAL
    line = Text(f"  {current.name:<10}", no_wrap=True, overflow="ellipsis")
    line.append("▒" * before, "dim")
    line.append("█" * (until - before), "green" if current.result or not current.killed else "cyan")
    line.append("✗" if current.killed else "", "bold red")
    line.append("·" * (cells - until - (1 if current.killed and until < cells else 0)), "dim")
    line.append(f"  {_story(current)}")
    return line


def _story(current: Try) -> str:
    words = [f"resumed behind {current.begin}" if current.begin else "from the start"]
    if current.killed:
        words.append(f"killed at {current.last} of {TOTAL}")
    elif current.result is not None:
        words.append(f"finished in {span_text(current.seconds)}")
    elif current.ended:
        words.append("failed")
    else:
        words.append(f"at {current.last} of {TOTAL}")
    return ", ".join(words)


def _broken(out: Console, current: Try) -> bool:
    out.print(plain(f"\nThe job ended without a result; it said:\n{current.errors}", "red"))
    return False


def _verdict(out: Console, stage: Stage, reference: Try, again: Try, info: RunInfo) -> bool:
    """Say what was measured; whether the results are equal."""
    last = stage.tries[-1]
    equal = last.result == reference.result == again.result
    killed = sum(each.killed for each in stage.tries)
    redone = sum(max(0, before.last - after.begin) for before, after in zip(stage.tries, stage.tries[1:], strict=False))
    executed = len((stage.folder / "calls").read_text().split())
    facts = [
        f"work lost: {redone} of {TOTAL} batches were done again ({100 * redone / TOTAL:.1f} %)",
        f"steps: {ROUNDS} were needed, {executed} were executed (recorded ones are never executed again)",
        *_costs(info),
    ]
    if equal:
        estimates, *others = json.loads(str(last.result))
        count = len(estimates) + len(others)
        out.print(plain(f"After {killed} kills the same result: {count} numbers, equal to the last bit.", "bold green"))
        facts.append(f"pi is about {estimates[-1]!r}")
    else:
        out.print(plain("THE RESULTS DIFFER", "bold red"))
        for name, each in (("plain", reference), ("killed and resumed", last), ("recorded", again)):
            out.print(plain(f"  {name}: {each.result}"))
    for fact in facts:
        out.print(plain(f"  {fact}"), soft_wrap=True)
    return equal


def _costs(info: RunInfo) -> list[str]:
    said = (
        [f"checkpoints: {info.summary.checkpoints}, the last one of {size_text(info.checkpoints[-1].nbytes)}"]
        if info.checkpoints
        else []
    )
    cost = cost_text(info)
    return [*said, f"cost: the job stood still for {cost}"] if cost else said
