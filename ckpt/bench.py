"""A user's own program, run with and without checkpoints: what they cost it, and what a kill costs it.

Every run has a store of its own in a temporary folder (see ``ckpt.trial``), so no store of the user is read or written.
The runs with and without (``CKPT_DISABLE=1``) take turns; at last one is killed with SIGKILL in its middle and started
again. What is measured comes from the clock and from what checkpoints record of themselves. Which interval is best for a
mean time between failures: J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (1974);
J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22 (2006).
"""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckpt.errors import MeasureError, OptionError
from ckpt.events import span_text
from ckpt.failures import daly_interval, useful_share, young_interval
from ckpt.protocols import Clock
from ckpt.settings import trial_store
from ckpt.store import Store
from ckpt.trial import trace_of

POLL_S = 0.005
"""How often a running program is looked at: the times of runs are rounded by no more than this."""

KILL_AT = 0.5
"""The part of its usual time at which the program is killed, if it has taken a checkpoint in a loop by then."""

TAIL_LINES = 12
"""Lines of a failed program's standard error that are shown."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Figures of several repetitions: the median, what nine of ten are not above, the smallest and the largest."""

    median: float
    p90: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None if there are none."""
        if not values:
            return None
        ordered = sorted(values)
        p90 = ordered[math.ceil(0.9 * len(ordered)) - 1]
        return cls(statistics.median(ordered), p90, ordered[0], ordered[-1], len(ordered))


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run that was killed ``killed_s`` after its start: the newest durable checkpoint was taken ``lost_s`` before.

    ``resume_s``: from the start of the new process (imports included) to the moment when the job goes on where that
    checkpoint was taken. ``whole_s``: from there to the end, the start included.
    """

    killed_s: float
    lost_s: float
    resume_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Advice:
    """Intervals between checkpoints in seconds, for a mean time between failures of ``mtbf_s``.

    ``useful`` is the share of the time that goes into work which is not lost: with ``daly_s``, and as it was measured
    (``measured_s``, None with fewer than two checkpoints). ``cost_s`` is what one checkpoint costs the job.
    """

    mtbf_s: float
    cost_s: float
    young_s: float
    daly_s: float
    useful: float
    measured_s: float | None
    measured_useful: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """All that ``ckpt bench`` found. Spans are seconds, sizes bytes; ``overhead`` is a share of the time without checkpoints.

    Of each round ``without_s`` and ``with_s`` are the times of the whole processes; ``start_s`` is how much longer jobs took from
    their call to their first line than without checkpoints, which is paid once, however long they run. ``overhead`` is without
    that, ``whole`` with it. Stalls, persist times and sizes are those of single checkpoints of all rounds; ``written`` counts what
    a run stored in all. ``counted`` is the share of its time that checkpoints took as the job itself counts it.
    """

    command: tuple[str, ...]
    without_s: tuple[float, ...]
    with_s: tuple[float, ...]
    start_s: Spread
    overhead: Spread
    whole: Spread
    counted: float | None
    checkpoints: Spread
    stall_s: Spread
    stalls_s: tuple[float, ...]
    persist_s: Spread
    state_nbytes: Spread
    stored_nbytes: Spread
    written: Spread
    at_risk_s: Spread | None
    resumed: Resumed | None
    not_resumed: str
    advice: Advice


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure: ``command`` behind the interpreter; ``rounds`` >= 1; ``every`` sets CKPT_EVERY (None: as it is)."""

    command: tuple[str, ...]
    rounds: int
    mtbf_s: float
    every: str | None = None


@dataclass(slots=True)
class _Trial:
    """One process of the program, from ``began_s`` to ``ended_s`` on the clock."""

    folder: Path
    began_s: float
    ended_s: float = 0.0
    status: int = 0
    errors: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    killed: bool = False

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s

    @property
    def start_s(self) -> float:
        """Seconds that calls of jobs took to their first line. A call that returned a recorded result has none."""
        called_s, spent_s = None, 0.0
        for each in self.events:
            if each["event"] == "called":
                called_s = each["at"]
            elif each["event"] == "entered" and called_s is not None:
                called_s, spent_s = None, spent_s + each["at"] - called_s
        return spent_s

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == "checkpoint"]


def measure(request: Request, clock: Clock, say: Callable[[str], None]) -> Measured:
    """Run the program 2 x rounds + 2 times. ``say`` is told what happens, a line each.

    MeasureError if the program fails by itself, or takes no checkpoint; OptionError if there is no such script.
    """
    if not os.path.isfile(request.command[0]):
        raise OptionError("no such script", where=request.command[0], fix="give the path of a Python program")
    with tempfile.TemporaryDirectory(prefix="ckpt-bench-") as temporary:
        program = _Program(request, Path(temporary), clock)
        without, with_, kept = _rounds(program, say)
        killed, again, why = _kill_once(program, statistics.median(one.seconds for one in with_), say)
        return _measured(request, without, with_, kept, (_resumed(killed, again), why))


class _Program:
    """Starts the program, each time in a folder of its own below ``folder`` unless one is given."""

    def __init__(self, request: Request, folder: Path, clock: Clock) -> None:
        self.request, self._folder, self._clock = request, folder, clock
        self._count = 0

    def run(
        self, *, disabled: bool = False, again: Path | None = None, until: Callable[[_Trial], bool] | None = None
    ) -> _Trial:
        """Wait for its end, or kill it as soon as ``until`` holds. ``again``: the folder of a run to go on with."""
        self._count += 1
        folder = again or self._folder / str(self._count)
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile("w+", dir=self._folder, errors="replace") as errors:
            trial = _Trial(folder, self._clock.monotonic())
            process = subprocess.Popen(
                [sys.executable, *self.request.command],
                env=self._environ(folder, disabled=disabled),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    if until is not None and until(trial):
                        break
                    self._clock.sleep(POLL_S)
            finally:
                trial.killed = process.poll() is None
                _kill_group(process.pid)
                trial.status = process.wait()
                trial.ended_s = self._clock.monotonic()
            errors.seek(0)
            trial.errors = errors.read()
        trial.events = _events(folder, trial.began_s)
        return trial

    def elapsed_s(self, trial: _Trial) -> float:
        return self._clock.monotonic() - trial.began_s

    def _environ(self, folder: Path, *, disabled: bool) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if name not in ("CKPT_DISABLE", "CKPT_PULSE")}
        environ.update(CKPT_TRIAL=str(folder), CKPT_STORE=trial_store(str(folder)))
        if disabled:
            environ["CKPT_DISABLE"] = "1"
        if self.request.every is not None:
            environ["CKPT_EVERY"] = self.request.every
        return environ


def _kill_group(leader: int) -> None:
    """End the program and whatever it started that did not leave its process group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # nobody is left in it


def _events(folder: Path, since_s: float) -> list[dict[str, Any]]:
    """The events that the trial in ``folder`` wrote since, but for the end of one that a kill has cut off."""
    try:
        lines = trace_of(folder).read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [each for each in found if each["at"] >= since_s]


def _rounds(program: _Program, say: Callable[[str], None]) -> tuple[list[_Trial], list[_Trial], list[dict[str, Any]]]:
    """All trials without and with checkpoints, and what the runs with them recorded of themselves."""
    without: list[_Trial] = []
    with_: list[_Trial] = []
    recorded: list[dict[str, Any]] = []
    for turn in range(program.request.rounds):
        for disabled in (True, False) if turn % 2 == 0 else (False, True):
            trial = program.run(disabled=disabled)
            (without if disabled else with_).append(trial)
            _check(trial, disabled=disabled)
            if not disabled:
                recorded += _recorded(trial)
            how = "without checkpoints" if disabled else f"with {len(trial.checkpoints)} checkpoints"
            say(f"round {turn + 1} of {program.request.rounds}: {span_text(trial.seconds)} {how}")
    return without, with_, recorded


def _check(trial: _Trial, *, disabled: bool) -> None:
    """MeasureError if the program failed, or if it has no job that takes checkpoints."""
    if trial.status != 0:
        how = "without checkpoints (CKPT_DISABLE=1)" if disabled else "with checkpoints"
        ended = f"signal {-trial.status} ended it" if trial.status < 0 else f"it ended with status {trial.status}"
        tail = "\n".join(f"  | {line}" for line in trial.errors.splitlines()[-TAIL_LINES:])
        raise MeasureError(
            f"the program failed {how}: {ended}{f'; it said:{chr(10)}{tail}' if tail else ''}",
            fix="make it end with status 0, then measure it",
        )
    if not disabled and not trial.checkpoints:
        raise MeasureError(
            "the program took no checkpoint",
            fix="call a function with @ckpt.job (or use ckpt.open) and mark its loop with ckpt.loop",
        )


def _recorded(trial: _Trial) -> list[dict[str, Any]]:
    """For each run of the trial its seconds and what checkpoints cost it, as its own STATUS record has them."""
    store = Store(trial_store(str(trial.folder)))
    outcomes = [store.open(address).outcome for address in store.addresses()]
    return [{"seconds": each.seconds, "cost_s": each.cost_s} for each in outcomes if each is not None]


def _kill_once(program: _Program, usual_s: float, say: Callable[[str], None]) -> tuple[_Trial, _Trial | None, str]:
    """(the killed trial, the one that went on from it, "") or (_, None, why there is none)."""

    def is_time(trial: _Trial) -> bool:
        if program.elapsed_s(trial) < KILL_AT * usual_s:
            return False
        return any(each["event"] == "checkpoint" and each["path"] for each in _events(trial.folder, trial.began_s))

    killed = program.run(until=is_time)
    if not killed.killed:
        return killed, None, "the program ended before it could be killed: give it more to do"
    again = program.run(again=killed.folder)
    _check_resumed(again)
    say(f"killed after {span_text(killed.seconds)} and started again")
    if not any(each["event"] == "resumed" for each in again.events):
        return killed, None, "the killed run was finished already, or had no checkpoint in a loop"
    return killed, again, ""


def _check_resumed(again: _Trial) -> None:
    if again.status != 0:
        tail = "\n".join(f"  | {line}" for line in again.errors.splitlines()[-TAIL_LINES:])
        raise MeasureError(
            f"the program failed when it was started again after a kill (status {again.status}); it said:\n{tail}",
            fix="see what it says, and try `ckpt run` with it",
        )


def _resumed(killed: _Trial, again: _Trial | None) -> Resumed | None:
    if again is None:
        return None
    at = next(each["at"] for each in again.events if each["event"] == "resumed")
    newest = killed.checkpoints[-1]
    taken_s = newest["at"] - newest["persist_s"]
    return Resumed(
        killed_s=killed.seconds,
        lost_s=max(0.0, killed.ended_s - taken_s),
        resume_s=at - again.began_s,
        whole_s=again.seconds,
    )


def _measured(
    request: Request,
    without: Sequence[_Trial],
    with_: Sequence[_Trial],
    recorded: Sequence[Mapping[str, Any]],
    after_kill: tuple[Resumed | None, str],
) -> Measured:
    rounds = [*zip(with_, without, strict=True)]
    every = [each for trial in with_ for each in trial.checkpoints]
    seconds, cost_s = (sum(each[name] for each in recorded) for name in ("seconds", "cost_s"))
    # The first checkpoint of a run follows its start at once: no work was at risk for as long as that.
    intervals = [each["interval_s"] for each in every if each["path"] and each["reason"] != "first"]
    resumed, why = after_kill
    one_costs_s = cost_s / len(every) if cost_s > 0 else statistics.mean(each["stall_s"] for each in every)
    persist_s = statistics.median(each["persist_s"] for each in every)
    lost_s = persist_s + (resumed.resume_s if resumed is not None else 0.0)
    return Measured(
        command=request.command,
        without_s=tuple(one.seconds for one in without),
        with_s=tuple(one.seconds for one in with_),
        # Calls of jobs take a moment without checkpoints, too: what both have is no part of the difference.
        start_s=_spread([ours.start_s - plain.start_s for ours, plain in rounds]),
        overhead=_spread([(ours.seconds - ours.start_s) / (plain.seconds - plain.start_s) - 1 for ours, plain in rounds]),
        whole=_spread([ours.seconds / plain.seconds - 1 for ours, plain in rounds]),
        counted=cost_s / seconds if seconds > 0 else None,
        checkpoints=_spread([len(one.checkpoints) for one in with_]),
        stall_s=_spread([each["stall_s"] for each in every]),
        stalls_s=tuple(each["stall_s"] for each in every),
        persist_s=_spread([each["persist_s"] for each in every]),
        state_nbytes=_spread([each["nbytes"] for each in every]),
        stored_nbytes=_spread([each["stored_nbytes"] for each in every]),
        written=_spread([sum(each["stored_nbytes"] for each in one.checkpoints) for one in with_]),
        at_risk_s=Spread.of(intervals),
        resumed=resumed,
        not_resumed=why,
        advice=advise(request.mtbf_s, one_costs_s, lost_s, statistics.median(intervals) if intervals else None),
    )


def _spread(values: Sequence[float]) -> Spread:
    found = Spread.of(values)
    assert found is not None  # there is at least one round, and it took a checkpoint
    return found


def command_text(measured: Measured) -> str:
    """The program as one would type it."""
    return shlex.join(measured.command)


def advise(mtbf_s: float, cost_s: float, lost_s: float, measured_s: float | None) -> Advice:
    """What Young and Daly advise; ``lost_s`` is lost at each failure besides the work since the last checkpoint."""
    daly_s = daly_interval(cost_s, mtbf_s)
    return Advice(
        mtbf_s=mtbf_s,
        cost_s=cost_s,
        young_s=young_interval(cost_s, mtbf_s),
        daly_s=daly_s,
        useful=useful_share(daly_s, cost_s, lost_s, mtbf_s),
        measured_s=measured_s,
        measured_useful=None if measured_s is None else useful_share(measured_s, cost_s, lost_s, mtbf_s),
    )
