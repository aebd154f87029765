"""Every state that POSIX allows after a power loss, at each system call of every commit path, is recovered.

Recorded are the calls of the local adapter while a run makes its store, takes over, appends, checkpoints with packs,
rotates, trims, dies with an append that was not synced, is taken over, finishes; while it is removed; and while a damaged
one is repaired. Of each state that ``disk_model`` derives: no acknowledged record is lost, no value is wrong, and there is
no error at all; a removed run is whole or empty; a repaired one is damaged as before, or repaired. One kind of state may
give a CorruptionError instead: a hole in a record that was not acknowledged, where the disk wrote a later sector of one
append and lost an earlier one. It looks like damage of a record that was, so it is not passed over without a word.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckpt.errors import CorruptionError, RunNotFoundError
from ckpt.store import Store
from proofs.common import main, memory_folder, no_hang, quiet, recover, say
from proofs.disk_model import Recorder, State, build, states
from proofs.facts import NAMES, Playing, check, play


@dataclass(frozen=True, slots=True)
class Case:
    """One state of a scenario: after which event, what had been acknowledged by then, and how to check it."""

    scenario: str
    at: int
    state: State
    notes: tuple[Any, ...]
    check: Callable[[Path, tuple[Any, ...]], None]


def _check_facts(store: Path, notes: tuple[Any, ...]) -> None:
    acknowledged = max(notes, default=0)
    check(store, acknowledged, acknowledged + 1)


def scenarios() -> dict[str, tuple[Callable[[Recorder], None], Callable[[Path, tuple[Any, ...]], None]]]:
    """How to record each, and how to check its states."""
    return {
        "a whole run": (lambda recorder: play(recorder.root, recorder.ack), _check_facts),
        "killed in mid-append, then taken over": (_unsynced, _check_facts),
        "removed": (_removal, _check_removal),
        "repaired": (_repair, _check_repair),
    }


def _unsynced(recorder: Recorder) -> None:
    """An attempt dies between writing and syncing a record; its successor goes on behind that."""
    playing = Playing(recorder.root, recorder.ack)
    playing.checkpoint(100)
    playing.operation()

    def fail(call: str) -> None:
        if call == "fdatasync":
            raise KeyboardInterrupt

    recorder.fail_next = fail
    with contextlib.suppress(KeyboardInterrupt):
        playing.operation()
    recorder.fail_next = lambda call: None
    playing.die()
    playing.begin()
    recorder.ack(playing.fact)  # the takeover has seen it: from now on it has to stay
    playing.operation()
    playing.checkpoint(100)
    playing.end()


def _removal(recorder: Recorder) -> None:
    play(recorder.root, lambda fact: None)
    recorder.ack("whole")
    Store(recorder.root).remove(NAMES.address)
    recorder.ack("removed")


def _check_removal(store: Path, notes: tuple[Any, ...]) -> None:
    if "whole" not in notes:
        return
    try:
        found = recover(store, NAMES)
    except RunNotFoundError:
        return
    assert found[0] == "result" or found == ("start", []), f"an older state of itself: {found}"


def _repair(recorder: Recorder) -> None:
    playing = Playing(recorder.root, lambda fact: None)
    playing.checkpoint(17_000)
    for _ in range(3):
        playing.operation()
    playing.end()
    segment = recorder.root / NAMES.segment(1)
    at = segment.read_bytes().index(b"value 3") - 20
    store = Store(recorder.root)
    store._root.storage.put(NAMES.segment(1), [_changed(segment.read_bytes(), at)])
    recorder.ack("damaged")
    store.repair(NAMES.address, accept_loss=True)
    recorder.ack("repaired")


def _changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _check_repair(store: Path, notes: tuple[Any, ...]) -> None:
    if "damaged" not in notes:
        return
    originals = [path for path in store.rglob(f"*{NAMES.segment(1)[-12:]}") if b"value 4" in path.read_bytes()]
    assert originals, "the damaged original is gone"
    try:
        check(store, 2, 2)
    except CorruptionError:
        assert "repaired" not in notes, "the repair was lost"


def cases(seed: int) -> Iterator[Case]:
    """All cases that the seed gives, without those that were there before."""
    for name, (play_it, check_it) in scenarios().items():
        with memory_folder() as folder:
            recorder = Recorder(folder / "store")
            with recorder.recording():
                play_it(recorder)
            seen: set[bytes] = set()
            for count in range(len(recorder.events) + 1):
                notes = tuple(event.note for event in recorder.events[:count] if event.kind == "ack")
                for state in states(recorder, count, random.Random(f"{seed} {name} {count}")):
                    text = repr((notes, sorted(state.tree.items())))
                    image = hashlib.blake2b(text.encode(), digest_size=16).digest()
                    if image not in seen:
                        seen.add(image)
                        yield Case(name, count, state, notes, check_it)


def prove(case: Case, folder: Path) -> str:
    """Recover the state; how that went. AssertionError."""
    shutil.rmtree(folder, ignore_errors=True)
    build(case.state.tree, folder)
    try:
        with no_hang():
            case.check(folder, case.notes)
    except Exception as error:
        if case.state.holed and isinstance(error, CorruptionError):
            return f"{case.scenario}: CorruptionError for a hole"
        shown = {path: None if data is None else len(data) for path, data in case.state.tree.items()}
        raise AssertionError(f"{case.scenario}, power lost after call {case.at}: {error}\n{shown}") from error
    return f"{case.scenario}: recovered"


def run(cycles: int, seed: int) -> str:
    """Recover ``cycles`` states, evenly over all (0: every one)."""
    tried: dict[str, int] = {}
    with quiet():
        every = list(cases(seed))
        rng = random.Random(seed)
        chosen = rng.sample(every, cycles) if 0 < cycles < len(every) else every
        with memory_folder() as folder:
            for number, case in enumerate(chosen):
                verdict = prove(case, folder / "store")
                tried[verdict] = tried.get(verdict, 0) + 1
                say(f"{number} of {len(chosen)}")
    shown = "\n".join(f"  {count:7}  {name}" for name, count in tried.items())
    return f"{len(chosen)} of {len(every)} states recovered (seed {seed})\n{shown}"


if __name__ == "__main__":
    main(run, 0, __doc__.splitlines()[0])
