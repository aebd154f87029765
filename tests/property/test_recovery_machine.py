"""Recovery and the log against a plain model: operations, checkpoints, resets, ends, crashes, takeovers, damage.

What must hold after every step, for the log as it is and for each damaged copy of it:
 - the resume point is a checkpoint that was committed since the last reset, with the very states that were staged;
 - its operations are exactly the acknowledged ones behind what it covers, in order;
 - without damage it is the newest checkpoint; with damage the newest one that is whole;
 - where what is damaged cannot be made up for, CorruptionError (or a sibling): never another point.
"""

from __future__ import annotations

import contextlib
import random
from copy import deepcopy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from property.recovery_model import (
    Checkpoint,
    Entry,
    Expected,
    Finish,
    Operation,
    Parts,
    Truth,
    damages,
    lost_from,
    truth_of,
)
from unit.log_doubles import KEY, NAMES, Fault, SimDisk, SimObjects, take_over

from ckpt.errors import IntegrityError
from ckpt.format.names import FIRST_SLOT
from ckpt.format.records import Kind, lsn_of, lsn_slot
from ckpt.history import History, history_of
from ckpt.log import Damage, LogView, read_log
from ckpt.recovery import ResumePoint, find_resume_point, results_since_start
from ckpt.snapshot import SnapshotRef, SnapshotWriter, read_snapshot
from ckpt.staging import Stager

INLINE_LIMIT = 100
"""States above it go to packs."""

ACTIONS = ["record", "commit", "reset", "finish", "rotate", "let_go"]


class RecoveryMachine(RuleBasedStateMachine):
    """Plays attempts of one run, one after the other."""

    @initialize(disk=st.booleans())
    def begin(self, disk: bool) -> None:
        self.storage = SimDisk() if disk else SimObjects()
        self.stager, self.serial, self.highest_floor = Stager(), 0, FIRST_SLOT
        self.entries: dict[int, Entry] = {}  # by serial number, in the order of the log
        self.unsure: tuple[int, Entry] | None = None
        self.start_attempt()

    # --- what attempts do

    def start_attempt(self) -> None:
        self.writer, view = take_over(self.storage)
        self.snapshots = SnapshotWriter(self.storage, NAMES, KEY, self.writer.epoch, inline_limit=INLINE_LIMIT)
        self.staged: Checkpoint | None = None
        if self.unsure is not None:
            # The process died while it wrote this record: only the log knows, and from now on it is a fact.
            serial, entry = self.unsure
            entry.lsn = next((record.lsn for record in view.records if record.head.get("serial") == serial), 0)
            self.unsure = None
            if entry.lsn:
                self.entries[serial] = entry
        point = self.check(view)
        if point is not None:
            self.snapshots.adopt([*point.refs])

    def append(self, kind: Kind, head: dict[str, Any], sections: list[bytes], entry: Entry) -> None:
        self.serial += 1
        self.unsure = self.serial, entry
        entry.lsn = self.writer.append(kind, {**head, "serial": self.serial}, sections)
        self.entries[self.serial], self.unsure = entry, None

    def store(self, states: list[Parts]) -> list[SnapshotRef]:
        refs = []
        for skeleton, *buffers in states:
            staged = self.stager.stage(skeleton, buffers)
            try:
                refs.append(self.snapshots.write(staged))
            finally:
                staged.release()
        return refs

    def record(self, seed: int) -> None:
        result = (bytes([self.serial % 256, seed % 256]), random.Random(seed).randbytes(seed % 70))
        self.append(Kind.OPERATION, {"id": result[0].hex()}, [result[1]], Operation(result=result))

    def stage(self, seed: int) -> None:
        """Take the state; what is recorded before the commit belongs to it as operations behind the checkpoint."""
        rng = random.Random(seed)
        # Few different contents, so that later snapshots draw on chunks in packs of earlier ones.
        states = [[b"skeleton %d" % self.serial, *contents(rng)] for _ in range(rng.randrange(1, 4))]
        self.staged = Checkpoint(covers=self.writer.position, states=states)

    def commit(self, seed: int) -> None:
        if self.staged is None:
            self.stage(seed)
        entry, self.staged = self.staged, None
        assert entry is not None
        entry.refs = self.store(entry.states)
        head = {"number": self.serial, "covers": entry.covers, "path": []}
        self.append(Kind.CHECKPOINT, head, [ref.encode() for ref in entry.refs], entry)

    def reset(self, seed: int) -> None:
        self.staged = None
        self.append(Kind.STATUS, {"status": "reset"}, [], Entry())

    def finish(self, seed: int) -> None:
        entry = Finish(states=[[b"result %d" % seed, *contents(random.Random(seed))]])
        entry.refs = self.store(entry.states)
        self.append(Kind.STATUS, {"status": "finished"}, [entry.refs[0].encode()], entry)

    def rotate(self, seed: int) -> None:
        self.writer.rotate()

    def let_go(self, seed: int) -> None:
        """Keep the newest checkpoints, as retention does: never while a state is staged."""
        truth = truth_of(self.entries.values(), FIRST_SLOT)
        if self.staged is not None or not truth.checkpoints:
            return
        kept = truth.checkpoints[-(1 + seed % 3) :]
        before = min(kept[0].covers, kept[0].lsn)
        self.highest_floor = max(self.highest_floor, lsn_slot(before))
        self.writer.trim(before)
        needed = {pack for one in [*kept, *([truth.finish] if truth.finish else [])] for pack in one.packs}
        gone = {key for key in self.storage.list(NAMES.pack_prefix) if key not in needed}
        self.snapshots.forget(gone)
        for pack in sorted(gone):
            self.storage.delete(pack)

    # --- the rules

    @rule(seed=st.integers(0, 999))
    def an_operation(self, seed: int) -> None:
        self.record(seed)

    @rule(seed=st.integers(0, 999))
    def a_checkpoint(self, seed: int) -> None:
        self.commit(seed)

    @precondition(lambda self: self.staged is None)
    @rule(seed=st.integers(0, 999), more=st.integers(1, 3), rotate=st.booleans())
    def a_checkpoint_that_is_committed_later(self, seed: int, more: int, rotate: bool) -> None:
        self.stage(seed)
        for n in range(more):
            self.record(seed + n)
        if rotate:
            self.rotate(seed)

    @rule(action=st.sampled_from(["reset", "finish", "rotate", "rotate", "let_go", "let_go"]), seed=st.integers(0, 999))
    def something_rarer(self, action: str, seed: int) -> None:
        getattr(self, action)(seed)

    @rule()
    def a_takeover(self) -> None:
        self.start_attempt()

    @rule(
        action=st.sampled_from(ACTIONS),
        seed=st.integers(0, 999),
        call=st.integers(1, 7),
        when=st.sampled_from(["before", "after"]),
        power_fails=st.sampled_from(["before", "after"]),
    )
    def a_crash(self, action: str, seed: int, call: int, when: str, power_fails: str) -> None:
        """The process dies in a call of the storage, or just behind the action; the power fails before or after the
        next attempt has begun."""
        setattr(self.storage, when, Fault("any", KeyboardInterrupt(), call))
        with contextlib.suppress(KeyboardInterrupt):
            getattr(self, action)(seed)
        self.storage.before = self.storage.after = nothing
        if power_fails == "before":
            self.lose_power(seed)
        self.start_attempt()
        if power_fails == "after":
            self.lose_power(seed)

    def lose_power(self, seed: int) -> None:
        if isinstance(self.storage, SimDisk):
            self.storage.lose_power(random.Random(seed))

    @rule(data=st.data(), how_many=st.sampled_from([1, 1, 1, 2]))
    def damage_to_a_copy(self, data: st.DataObject, how_many: int) -> None:
        whole, newest = self.storage, read_log(self.storage, NAMES, KEY).next_slot - 1
        floor, self.storage = read_log(whole, NAMES, KEY).floor, deepcopy(whole)
        try:
            drawn = [data.draw(damages(whole)) for _ in range(how_many)]
            done = [*{damage.key: damage for damage in drawn}.values()]
            for damage in done:
                damage.apply(self.storage)
            if not self.storage.list(NAMES.log_prefix):
                return  # a log that is gone to the last file is one that never was
            below = lost_from({damage.key for damage in done if damage.bit is None}, newest)
            truth = truth_of(self.entries.values(), floor, below)
            expected = done[0].expected(truth, newest, {*whole.files}) if len(done) == 1 else "sound"
            self.check_damaged(read_log(self.storage, NAMES, KEY), truth, expected)
            for _ in range(2):  # a takeover seals what it finds: that must not make damage look sound
                self.check_damaged(take_over(self.storage)[1], truth, expected)
        finally:
            self.storage = whole

    @invariant()
    def recovery_says_what_the_model_says(self) -> None:
        self.check(read_log(self.storage, NAMES, KEY))

    # --- what should be

    def resume_point(self, view: LogView, history: History) -> ResumePoint | None:
        return find_resume_point(view, history, NAMES, self.read)

    def read(self, ref: SnapshotRef) -> list[Any]:
        return read_snapshot(ref, self.storage, NAMES, KEY)

    def check(self, view: LogView) -> ResumePoint | None:
        """Of a log that nobody damaged."""
        assert view.damages == []
        assert view.floor <= self.highest_floor
        truth = truth_of(self.entries.values(), view.floor)
        history = history_of(view.records)
        self.check_finish(history, truth.finish)
        point = self.resume_point(view, history)
        self.check_point(point, history, truth, truth.checkpoints[-1] if truth.checkpoints else "start")
        return point

    def check_damaged(self, view: LogView, truth: Truth, expected: Expected) -> None:
        history = history_of(view.records)
        try:
            point = self.resume_point(view, history)
        except IntegrityError:
            assert expected in ("error", "sound")
            return
        assert expected != "error", f"{point} hides what is lost"
        self.check_point(point, history, truth, expected)
        finish = history.finished
        if finish is None:
            # A lost end is made up for by what a later attempt has saved.
            assert truth.finish is None or (point is not None and point.lsn > truth.finish.lsn)
        elif not any(last_lsn(damage) > finish.lsn for damage in view.damages):
            with contextlib.suppress(IntegrityError):
                self.check_finish(history, truth.finish)

    def check_finish(self, history: History, finish: Finish | None) -> None:
        assert (history.finished.lsn if history.finished else None) == (finish.lsn if finish else None)
        if history.finished is not None and finish is not None:
            assert texts(self.read(SnapshotRef.decode(history.finished.sections[0]))) == finish.states[0]

    def check_point(self, point: ResumePoint | None, history: History, truth: Truth, expected: Expected) -> None:
        if point is None:
            assert expected in ("start", "sound")
            assert truth.from_its_start
            assert results_since_start(history) == truth.since(-1)
            return
        (checkpoint,) = [one for one in truth.checkpoints if one.lsn == point.lsn]
        assert expected == "sound" or checkpoint is expected
        assert [texts(parts) for parts in (*point.parts, point.results)] == checkpoint.states
        assert point.operations == truth.since(checkpoint.covers)
        assert lsn_slot(checkpoint.covers) >= truth.floor, "operations behind it were trimmed away"


def last_lsn(damage: Damage) -> int:
    """The last record that may be lost."""
    return damage.lsn if damage.lsn is not None else lsn_of(NAMES.parse_segment(damage.path) or 0, 0xFFFFFFFF)


def texts(parts: list[Any]) -> Parts:
    return [bytes(part) for part in parts]


def contents(rng: random.Random) -> Parts:
    return [random.Random(rng.randrange(3)).randbytes(rng.choice([0, 30, 3000])) for _ in range(rng.randrange(3))]


def nothing(operation: str, key: str) -> None:
    return None


RecoveryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRecovery = RecoveryMachine.TestCase
