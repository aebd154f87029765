"""Resets, forks and repairs of one run and its forks, against a model that knows branches, and no LSNs.

What must hold at the beginning of each attempt, and after each reset, fork or repair: the run goes on from the checkpoint
that the model names; it knows the results of steps and maps and the operations of logged objects of its branch, each
once, in order, and no others; ``verify`` finds nothing.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from property.branching_model import Branch, Point
from unit.runs import BIG, Writing

from ckpt.errors import OptionError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.history import history_of
from ckpt.log import read_log
from ckpt.recovery import ResumePoint, find_resume_point, needed_from, results_since_start
from ckpt.retention import Retention
from ckpt.root import StoreRoot
from ckpt.session.attempt import kept_checkpoints
from ckpt.session.history import History
from ckpt.snapshot import read_snapshot
from ckpt.store import Store

PATH: list[Any] = []

NOT_NEEDED = st.sampled_from([0, 0, 0, 1, 2, 9])
"""How many more records of operations a checkpoint does not need for maps."""


class BranchingMachine(RuleBasedStateMachine):
    @initialize(keep=st.integers(2, 4), whole=st.booleans())
    def begin(self, keep: int, whole: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ckpt-branches-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.store, self.keep, self.whole = Store(self.folder / "s"), keep, whole
        self.root = StoreRoot.open(self.folder / "s")
        self.serial, self.run = 0, Branch("sim/a")
        self.others: list[Branch] = []
        self.attempt()

    # --- attempts

    @property
    def names(self) -> RunNames:
        return RunNames(*self.run.address.split("/"))

    def attempt(self) -> None:
        """Begin one, as ``ckpt.session.attempt`` does."""
        self.writing = Writing.start(self.folder / "s", *self.run.address.split("/"))
        log, snapshots, names = self.writing.log, self.writing.snapshots, self.names
        view = read_log(self.root.storage, names, self.root.key)
        history = history_of(view.records)
        self.lsns = {record.head["serial"]: record.lsn for record in history.operations}
        point = self.check()
        running = {**history.starts[-1].head, "status": "running"}
        self.retention = Retention(self.root.storage, names, log, snapshots, keep=self.keep, running=running)
        self.retention.recovered(kept_checkpoints(history, point, self.keep))
        self.retention.sweep_orphans()
        expected, there = self.run.resume()
        self.run.journal = self.run.journal[:there]
        self.staged: tuple[Point, dict[str, Any]] | None = None
        self.image = (0, log.position) if point is None else (point.head["logged"]["first"], point.head["logged"]["after"])
        self.number, self.named = history.last_number, 0 if expected is None else expected.number
        if point is not None:
            snapshots.adopt([*point.refs])
        if self.number == 0:
            self.stage(0, 0)
            self.commit(False)

    def die(self) -> None:
        self.writing.end()
        assert [one for one in self.store.verify(self.run.address) if one.serious] == []

    def append(self, head: dict[str, Any]) -> int:
        self.serial += 1
        data = pickle.dumps([self.serial])
        self.lsns[self.serial] = self.writing.log.append(Kind.OPERATION, {**head, "serial": self.serial}, [data])
        return self.serial

    def stage(self, maps: int, image: int) -> None:
        """Read a state. ``maps``: how many more records of maps are not needed with it; ``image`` 1: it makes a new one."""
        run, log = self.run, self.writing.log
        last = self.run.resume()[0] if self.staged is None else self.staged[0]
        covers, maps_from = log.position, min((last.maps_from if last else 0) + maps, len(run.operations))
        if image:
            self.image = (len(run.journal), covers)
        # A fork has no steps that its checkpoint covers.
        since = next((self.lsns[serial] - 1 for _, serial in run.operations[maps_from:] if serial in self.lsns), covers)
        self.number += 1
        before = (*run.newest.before, run.newest) if run.newest else ()
        point = Point(self.number, (*run.operations,), maps_from, (*run.journal,), self.image[0], before)
        logged = {"position": len(run.journal), "first": self.image[0], "after": self.image[1], "image": None, "objects": {}}
        self.staged = point, {"covers": covers, "maps_since": min(since, covers), "logged": logged}

    def commit(self, large: bool) -> None:
        assert self.staged is not None
        (point, head), self.staged = self.staged, None
        self.writing.number = point.number - 1
        kept = self.retention.numbers_with(point.number)
        ref = self.writing.checkpoint(3, nbytes=BIG if large else 100, **head, kept=kept)
        self.run.commit(point)
        self.named = point.number
        self.retention.committed(self.writing.log.position, needed_from(head), frozenset(ref.packs), point.number)

    # --- the rules of an attempt

    @rule(kind=st.sampled_from(["step", "map"]), count=st.integers(1, 3))
    def some_operations(self, kind: str, count: int) -> None:
        self.operations(kind, count)

    def operations(self, kind: str, count: int) -> None:
        for _ in range(count):
            head = {"id": f"{self.serial:08x}"} if kind == "step" else {"map": "00"}
            self.run.operations.append((kind, self.append(head)))

    @rule(count=st.integers(1, 3), position=st.booleans())
    def some_operations_of_logged_objects(self, count: int, position: bool) -> None:
        self.logged(count, position=self.whole and position)

    def logged(self, count: int, *, position: bool) -> None:
        """``position``: the last one says where the run is, by the newest checkpoint."""
        for left in reversed(range(count)):
            head = {"logged": {"from": len(self.run.journal), "count": 1, "objects": {"rows": 1}}}
            says_where = position and not left
            named = {"checkpoint": self.named, "path": PATH, "where": "t"} if says_where else {}
            self.run.journal.append(self.append({**head, **named}))
            if says_where:
                self.run.positions.append((self.named, len(self.run.journal)))

    @precondition(lambda self: self.staged is None)
    @rule(maps=NOT_NEEDED, image=st.integers(0, 1))
    def a_state_is_read(self, maps: int, image: int) -> None:
        self.stage(maps, image)

    @precondition(lambda self: self.staged is not None)
    @rule(large=st.booleans())
    def its_checkpoint_is_committed(self, large: bool) -> None:
        self.commit(large)

    @rule(
        maps=NOT_NEEDED, image=st.integers(0, 1), between=st.sampled_from(["", "step", "map", "position"]), cut=st.booleans(),
        large=st.booleans(),
    )  # fmt: skip
    def a_checkpoint(self, maps: int, image: int, between: str, cut: bool, large: bool) -> None:
        if self.staged is None:
            self.stage(maps, image)
        if between == "position":
            self.logged(2, position=self.whole)
        elif between:
            self.operations(between, 1)
        if cut:
            self.writing.log.rotate()
        self.commit(large)

    @rule()
    def the_log_is_cut(self) -> None:
        self.writing.log.rotate()

    @rule()
    def a_kill(self) -> None:
        self.die()
        self.attempt()

    # --- the ways to other branches

    def kept(self) -> list[int]:
        return [one.number for one in self.store.open(self.run.address).checkpoints]

    @rule(data=st.data())
    def a_reset(self, data: st.DataObject) -> None:
        self.die()
        kept = self.kept()
        to = data.draw(st.sampled_from(kept))
        with perhaps_refused(to, kept):
            self.run.reset(to, self.store.reset(self.run.address, to=to))
        self.attempt()

    @rule(data=st.data(), go=st.sampled_from([True, True, False]))
    def a_fork(self, data: st.DataObject, go: bool) -> None:
        kept = self.kept()
        at = data.draw(st.sampled_from(kept))
        with perhaps_refused(at, kept):
            made = self.run.fork(at, self.store.fork(self.run.address, at=at).address)
            self.others.append(made)
            if go:
                self.go_to(made)

    @precondition(lambda self: self.others)
    @rule(data=st.data())
    def another_run_goes_on(self, data: st.DataObject) -> None:
        self.go_to(data.draw(st.sampled_from(self.others)))

    def go_to(self, other: Branch) -> None:
        self.die()
        self.others.remove(other)
        self.others.append(self.run)
        self.run = other
        self.attempt()

    # --- what should be

    def check(self) -> ResumePoint | None:
        names, root = self.names, self.root
        view = read_log(root.storage, names, root.key)
        assert view.damages == []
        history = history_of(view.records)
        point = find_resume_point(view, history, names, lambda ref: read_snapshot(ref, root.storage, names, root.key))
        expected, there = self.run.resume()
        if point is None or expected is None:
            assert point is expected
            assert results_since_start(history) == []
            return None
        self.check_point(point, expected, there)
        return point

    def check_point(self, point: ResumePoint, expected: Point, there: int) -> None:
        run = self.run
        assert point.head["number"] == expected.number
        steps = [serial for kind, serial in run.operations[len(expected.operations) :] if kind == "step"]
        assert [serial for _, data in point.operations for serial in pickle.loads(data)] == steps
        maps = [serial for kind, serial in run.operations[expected.maps_from :] if kind == "map"]
        assert [one.head["serial"] for one in point.maps] == maps
        assert point.position == there
        joined = History(expected.image_at, None, point.logged, run.address)
        assert list(joined.operations(expected.image_at, there)) == run.journal[expected.image_at : there]

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.writing.end()
            shutil.rmtree(self.folder)


def perhaps_refused(number: int, kept: list[int]) -> contextlib.AbstractContextManager[Any]:
    """What an older checkpoint needs of the log may be gone."""
    return contextlib.nullcontext() if number == max(kept) else contextlib.suppress(OptionError)


# Not made smaller: that takes minutes, and what a machine does can be read as it is.
BranchingMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
TestBranching = BranchingMachine.TestCase


def test_what_positions_rest_on_is_kept_whatever_was_stored_behind_it() -> None:
    machine = BranchingMachine()
    machine.begin(keep=2, whole=True)
    try:
        machine.a_checkpoint(maps=0, image=1, between="", cut=True, large=True)
        for _ in range(3):  # each time it dies as soon as the checkpoint is committed that was in flight
            machine.a_checkpoint(maps=0, image=1, between="position", cut=True, large=True)
            machine.a_kill()
        machine.die()
    finally:
        machine.teardown()


def test_what_a_run_was_taken_back_to_is_what_verify_asks_for() -> None:
    """The packs of what it was taken back over are nothing that a resume needs."""
    machine = BranchingMachine()
    machine.begin(keep=3, whole=False)
    try:
        for _ in range(2):
            machine.a_checkpoint(maps=0, image=0, between="", cut=False, large=True)
        over = max(machine.root.storage.list(machine.names.pack_prefix))
        machine.writing.end()
        machine.store.reset(machine.run.address, to=2)
        machine.root.storage.delete(over)
        assert [one for one in machine.store.verify(machine.run.address) if one.serious] == []
    finally:
        machine.teardown()


def test_what_is_kept_in_front_of_what_a_run_was_taken_back_to_stays() -> None:
    machine = BranchingMachine()
    machine.begin(keep=2, whole=False)
    try:
        machine.a_checkpoint(maps=0, image=1, between="", cut=True, large=True)
        machine.a_checkpoint(maps=0, image=1, between="step", cut=True, large=True)
        machine.writing.end()
        machine.run.reset(3, machine.store.reset(machine.run.address, to=3))
        machine.attempt()
        machine.die()
    finally:
        machine.teardown()
