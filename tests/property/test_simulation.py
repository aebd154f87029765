"""The deterministic simulation finds no broken promise, is deterministic, and finds what a missing protection breaks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ckpt.format.floor import Floor, encode_floor
from ckpt.format.records import lsn_slot
from ckpt.log import LogWriter
from ckpt.log.tail import Tail

pytest.importorskip("greenlet")
from ckpt.testing.simulation import Outcome, Settings, race, run

SCHEDULES = RACES = 10_000
FIRST = int(os.environ.get("CKPT_TEST_SEED", "0"))
FIND_WITHIN = 4_000


def report(outcome: Outcome) -> str:
    return "\n".join([*outcome.trace[-200:], f"seed {outcome.seed}: {outcome.violation}"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_schedule_breaks_a_promise() -> None:
    print(f"seeds from {FIRST}")
    endings: dict[str, int] = {}
    for seed in range(FIRST, FIRST + SCHEDULES):
        outcome = run(seed)
        assert outcome.violation is None, report(outcome)
        for ending in outcome.endings:
            kind = ending.partition(":")[0]
            endings[kind] = endings.get(kind, 0) + 1
    print(endings)
    assert min(endings[kind] for kind in ("done", "gave up", "killed", "fenced", "refused")) > SCHEDULES / 50


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_attempts_that_race_for_an_epoch_one_wins() -> None:
    for seed in range(FIRST, FIRST + RACES):
        outcome = race(seed, 2 + seed % 4)
        assert outcome.violation is None, report(outcome)


def test_the_same_seed_gives_the_same_trace_in_every_process() -> None:
    command = [sys.executable, "-m", "ckpt.testing.simulate", "--schedules", "40", "--races", "10", "--seed", "7", "--trace"]
    traces = []
    for hash_seed in ("1", "4711"):
        done = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True)
        traces.append([line for line in done.stdout.splitlines() if b" s, and every promise was kept" not in line])
    assert traces[0] == traces[1]
    assert len(traces[0]) > 1000


def found(said: str) -> str:
    """The first broken promise of this kind that the simulation finds; '' if it finds none."""
    for seed in range(FIRST, FIRST + FIND_WITHIN):
        outcome = run(seed, Settings(rot=False))
        if outcome.violation is not None and re.search(said, str(outcome.violation)):
            return str(outcome.violation)
    return ""


def without_looking_back(patch: pytest.MonkeyPatch) -> None:
    """A slot that was created counts, whether or not a sweep was here."""
    patch.setattr(Tail, "_check_still_there", lambda self: None)


def without_looking_ahead(patch: pytest.MonkeyPatch) -> None:
    """What was appended counts, whether or not a successor has begun."""
    patch.setattr(Tail, "check_current", lambda self: None)


def deleting_before_the_floor_is_raised(patch: pytest.MonkeyPatch) -> None:
    def trim(self: Any, before_lsn: int) -> None:
        floor = min(lsn_slot(before_lsn), self._tail.slot)
        if floor <= self._tail.floor:
            return
        place = self._tail.place
        for slot in range(self._tail.floor, floor):
            place.storage.delete(place.names.segment(slot))
        self._tail.floor = floor
        place.storage.put(place.names.floor, [encode_floor(place.key, place.names, Floor(floor, self.epoch))])

    patch.setattr(LogWriter, "trim", trim)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("protection", "said"),
    [
        (without_looking_back, "gone on without it|two attempts have epoch|in another order|lost acknowledged|found .*, attempt"),
        (without_looking_ahead, "gone on without it|lost acknowledged|found .*, attempt"),
        (deleting_before_the_floor_is_raised, "damage that nobody did"),
    ],
)
def test_a_missing_protection_is_found(
    protection: Callable[[pytest.MonkeyPatch], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    protection(monkeypatch)
    violation = found(said)
    print(violation)
    assert violation, f"not found in {FIND_WITHIN} schedules"
