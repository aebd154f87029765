"""A job as a child process: start it, watch it, back off, start it again. Owns ``ckpt run``.

Guarantees:

* **No orphan writes.** The child lives in a process group led by its *keeper*, a shell that only waits for the end of a
  pipe which the supervisor alone holds open. However the supervisor ends (SIGKILL included), the pipe closes and the
  keeper kills the group. On Linux the kernel kills the child as well (PR_SET_PDEATHSIG), so that killing the keeper
  first does not help either. What leaves the group on purpose (``setsid``) is outside this promise.
* **One attempt at a time.** The whole group of an attempt is dead before the next one starts.
* **No silent end.** Each restart, and giving up, is said in one line.

The pulse is how a job shows signs of life. The supervisor names a file in ``CKPT_PULSE``. A session sets that file's
modification time at safe points, at most every ``CKPT_PULSE_EVERY`` seconds, and keeps in it how many steps this attempt
has recorded and how far the run is (``3 [[0, 2], [0, 41]]``, see ``session.pulse``). No touch for the hang time-out means
that the job hangs.

What counts as progress has to be more than one more iteration saved of those that the attempt before had done already: a
job that always dies at the same item would go on for ever. So an attempt made progress if it recorded steps, which happens
to each step once, or if it got further than any attempt before it *and* lived at least as long as the wait before it:
where a process is at its death is known only as far as it last said, a second ago or so.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ckpt.errors import EX_TEMPFAIL, OptionError
from ckpt.events import span_text
from ckpt.host import entropy
from ckpt.protocols import Clock

PULSE = "CKPT_PULSE"
PULSE_EVERY = "CKPT_PULSE_EVERY"

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Forwarded, and then the job is not started again. SIGUSR1 is forwarded too: checkpoint, end, start again."""

NOT_WORTH_ANOTHER_TRY = (2, 126, 127)
"""Statuses of a command line that is wrong: usage, not executable, not found."""

POLL_MIN_S, POLL_MAX_S = 0.002, 0.05
LONGEST_STEP_S = 1.0
_BEGINNING = [[0, 0]]
_PR_SET_PDEATHSIG = 1

# The keeper ignores all that a terminal or the supervisor's forwarding could send, waits for the end of its standard
# input, and kills its own process group. It is the group's leader, so the group's number stays its own until the end.
_KEEPER = ["/bin/sh", "-c", "trap '' HUP INT QUIT TERM USR1 USR2 TSTP TTIN TTOU; read line; kill -KILL 0"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on. ``restarts`` counts restarts in a row that made no progress; all times in seconds."""

    restarts: int = 10
    backoff_min_s: float = 1.0
    backoff_max_s: float = 60.0
    hang_timeout_s: float | None = None

    def __post_init__(self) -> None:
        if self.restarts < 0:
            raise OptionError(
                f"restarts must not be negative, not {self.restarts}", where="--restarts", fix="0 or more"
            )
        if not 0 <= self.backoff_min_s <= self.backoff_max_s:
            raise OptionError("the lower bound is above the upper one", where="--backoff", fix="write it as 1s..60s")
        if self.hang_timeout_s is not None and self.hang_timeout_s <= 0:
            raise OptionError("the time-out must be above zero", where="--hang-timeout", fix="for example 10m")

    def delay_s(self, barren: int, jitter: random.Random) -> float:
        """Seconds to wait after ``barren`` restarts in a row without progress: doubling, spread by a quarter."""
        bare = self.backoff_min_s * 2.0 ** min(barren, 60)
        spread = min(bare, self.backoff_max_s) * jitter.uniform(0.75, 1.25)
        return min(max(spread, self.backoff_min_s), self.backoff_max_s)


@dataclass(frozen=True, slots=True)
class _End:
    """How an attempt ended. ``code`` is negative for a signal."""

    code: int
    seconds: float
    recorded: int
    position: list[list[int]]
    hung: bool

    @property
    def status(self) -> int:
        """The exit status that a shell would report."""
        return self.code if self.code >= 0 else 128 - self.code

    @property
    def cause(self) -> str:
        after = f"after {span_text(self.seconds)}"
        if self.hung:
            return f"showed no sign of life and was killed {after}"
        if self.code == EX_TEMPFAIL:
            return f"was preempted (status {EX_TEMPFAIL}) {after}"
        if self.code < 0:
            return f"was killed by {_signal_name(-self.code)} {after}"
        return f"ended with status {self.code} {after}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Pulse:
    """The file by which the job shows signs of life, and the silence since the last one."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Begin a new attempt: nothing shown, no silence yet."""
        self._make()
        self._seen = self.path.stat().st_mtime_ns
        self._last_s = self._clock.monotonic()
        self._silent_s = 0.0

    def _make(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("")

    def silence_s(self) -> float:
        """Seconds of silence while the supervisor was watching.

        Only changes of the file's time count, never its value, so a clock that is set does no harm. A step in which the
        supervisor itself stood still (a suspended or frozen machine) counts as a second at most.
        """
        now_s = self._clock.monotonic()
        try:
            seen = self.path.stat().st_mtime_ns
        except FileNotFoundError:  # somebody cleaned up: the job could not have shown anything meanwhile
            self._make()
            seen = self.path.stat().st_mtime_ns
        if seen != self._seen:
            self._seen, self._silent_s = seen, 0.0
        else:
            self._silent_s += min(now_s - self._last_s, LONGEST_STEP_S)
        self._last_s = now_s
        return self._silent_s

    def shown(self) -> tuple[int, list[list[int]]]:
        """What the job last said: the steps that it recorded, and how far it is. Programs of others say what they like."""
        try:
            count, _, position = self.path.read_text(errors="replace").strip().partition(" ")
        except FileNotFoundError:
            return 0, []  # nothing is known
        recorded = int(count) if count.isdecimal() and count.isascii() else 0
        try:
            found = json.loads(position or "[]")
        except ValueError:
            return recorded, []
        pairs = isinstance(found, list) and all(
            isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair) for pair in found
        )
        return recorded, found if pairs else []


class _Family:
    """One attempt's processes: the keeper, the child, and whatever the child starts in its group."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], cwd: str | None) -> None:
        self._keeper = subprocess.Popen(_KEEPER, stdin=subprocess.PIPE, process_group=0)
        try:
            self._child = subprocess.Popen(
                command,
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL if _from_terminal() else None,
                process_group=self._keeper.pid,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - `ckpt run` has one thread
            )
        except OSError as error:
            self.destroy()
            reason = f"cannot start {command[0]!r} in {cwd or os.getcwd()!r}: {error.strerror}"
            raise OptionError(reason, fix="check the command and the folder") from error

    def poll(self) -> int | None:
        """The child's return code, None while it lives."""
        return self._child.poll()

    def forward(self, number: int) -> None:
        # Only the child: what it has forked must not take a preemption for its own.
        self._child.send_signal(number)

    def destroy(self) -> None:
        """Kill every process of the group and wait for the two that are ours. Repeatable."""
        if self._keeper.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._keeper.pid, signal.SIGKILL)
            child: subprocess.Popen[bytes] | None = getattr(self, "_child", None)
            if child is not None:
                child.wait()
            self._keeper.wait()
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()


def _from_terminal() -> bool:
    # The child's group is never the terminal's foreground group: reading there would stop it for good, without a word.
    return sys.stdin is not None and not sys.stdin.closed and _is_terminal(sys.stdin)


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty())


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the command: ask the kernel to be killed when the supervisor dies."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:
        # A supervisor that died before this line is seen in the line after it: no gap between them.
        if prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(1)

    return before_exec


class Supervisor:
    """Runs ``command`` until it finishes, is stopped, or is not worth another try.

    ``say`` gets each message as one line. ``environ`` is the child's whole environment (default: this process's).
    To be used in the main thread: it handles the process's signals while ``run`` runs, and puts them back.
    """

    def __init__(
        self,
        command: Sequence[str],
        patience: Patience,
        *,
        clock: Clock,
        say: Callable[[str], None],
        environ: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> None:
        self._command, self._patience = list(command), patience
        self._clock, self._say = clock, say
        self._environ, self._cwd = environ, cwd
        self._pending: list[int] = []
        self._stopping = False
        self._furthest = _BEGINNING

    def run(self) -> int:
        """The exit status: 0 when the command finished, otherwise its last one (128 + n for signal n).

        75 when it was stopped and the job is saved, or when the stop came between two attempts. OptionError if the
        command cannot be started.
        """
        folder = Path(tempfile.mkdtemp(prefix="ckpt-run-"))
        try:
            with self._signals():
                return self._run(_Pulse(folder / "pulse", self._clock))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, pulse: _Pulse) -> int:
        jitter = random.Random(entropy(8))
        attempt, barren, delay_s = 1, 0, 0.0
        while True:
            end = self._attempt(pulse)
            progressed = self._progressed(end, delay_s)
            if end.code == 0 or self._stopping:
                return end.status
            if end.code in NOT_WORTH_ANOTHER_TRY:
                self._say(f"attempt {attempt} {end.cause}: a wrong command line; not starting it again")
                return end.status
            barren = 0 if progressed else barren
            if barren >= self._patience.restarts:
                self._say(f"attempt {attempt} {end.cause}; giving up{self._why(barren)}")
                return end.status
            delay_s = self._patience.delay_s(barren, jitter)
            barren += 1
            made = "made progress" if progressed else f"no progress, restart {barren} of {self._patience.restarts}"
            self._say(f"attempt {attempt} {end.cause} ({made}); attempt {attempt + 1} starts in {span_text(delay_s)}")
            if not self._pause(delay_s):
                self._say("stopped before the next attempt; run again to go on")
                return EX_TEMPFAIL
            attempt += 1

    def _progressed(self, end: _End, waited_s: float) -> bool:
        """Whether the attempt moved the run on (see above), ``waited_s`` after the one before it."""
        further = end.position > self._furthest
        self._furthest = max(end.position, self._furthest)
        return end.recorded > 0 or (further and end.seconds >= waited_s)

    @staticmethod
    def _why(barren: int) -> str:
        return f" after {barren} restarts in a row without progress" if barren else ""

    def _attempt(self, pulse: _Pulse) -> _End:
        """Start the command and stay with it to its end; its whole group is dead on return."""
        pulse.reset()
        every_s = self._patience.hang_timeout_s / 4 if self._patience.hang_timeout_s else 1.0
        environ = dict(os.environ if self._environ is None else self._environ)
        environ |= {PULSE: str(pulse.path), PULSE_EVERY: f"{every_s:g}"}
        started_s = self._clock.monotonic()
        family = _Family(self._command, environ, self._cwd)
        try:
            code, hung = self._watch(family, pulse)
        finally:
            family.destroy()
        return _End(code, self._clock.monotonic() - started_s, *pulse.shown(), hung)

    def _watch(self, family: _Family, pulse: _Pulse) -> tuple[int, bool]:
        limit_s, step_s = self._patience.hang_timeout_s, POLL_MIN_S
        while (code := family.poll()) is None:
            for number in self._take_pending():
                family.forward(number)
            if limit_s is not None and pulse.silence_s() > limit_s:
                family.destroy()
                return -signal.SIGKILL, True
            self._clock.sleep(step_s)
            step_s = min(step_s * 1.5, POLL_MAX_S)
        self._take_pending()
        return code, False

    def _take_pending(self) -> list[int]:
        """The signals that arrived since the last call, in order; notes a wish to stop."""
        numbers = []
        while self._pending:
            numbers.append(self._pending.pop(0))
        self._stopping = self._stopping or any(number in STOPPING for number in numbers)
        return numbers

    def _pause(self, seconds: float) -> bool:
        """Wait between two attempts; False if a signal asked to stop."""
        until_s = self._clock.monotonic() + seconds
        while (left_s := until_s - self._clock.monotonic()) > 0:
            self._take_pending()
            if self._stopping:
                return False
            self._clock.sleep(min(left_s, POLL_MAX_S))
        self._take_pending()
        return not self._stopping

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Note signals while inside. One that is ignored (``nohup``) stays ignored, here and in the child."""

        def note(number: int, frame: FrameType | None) -> None:
            self._pending.append(number)

        wanted = [n for n in (*STOPPING, signal.SIGUSR1) if signal.getsignal(n) is not signal.SIG_IGN]
        earlier = {number: signal.signal(number, note) for number in wanted}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
