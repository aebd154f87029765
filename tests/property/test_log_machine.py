"""The log against a plain model: any mix of appends, rotations, trims, kills, power losses, takeovers, zombies, faults.

What must hold after every step:
 - every acknowledged operation (not trimmed since) is in the view, with its LSN;
 - of each attempt, the view holds a gap-free prefix of what it appended (what was refused with an error may be absent);
 - what counted at a takeover is, of the attempts before it, what counts for ever;
 - LSNs strictly increase, and nothing is reported as damaged.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from unit.log_doubles import KEY, NAMES, Fault, SimDisk, SimObjects, op, take_over

from ckpt.errors import FencedError, StorageError, StorageFullError
from ckpt.format.records import Kind, Record, lsn_of, lsn_slot
from ckpt.log import LogView, LogWriter, read_log

FAULTS = st.tuples(
    st.sampled_from(["before", "after"]),
    st.sampled_from(["any", "create", "sync", "append", "exists", "get"]),
    st.sampled_from([StorageError, StorageFullError]),
    st.integers(1, 6),
)


@dataclass
class Attempt:
    """One writer and what it was asked to append, in order: (operation, 'acknowledged' | 'queued' | 'refused')."""

    writer: LogWriter
    appended: list[int] = field(default_factory=list)
    state: dict[int, str] = field(default_factory=dict)
    lsn: dict[int, int] = field(default_factory=dict)


class LogMachine(RuleBasedStateMachine):
    """Drives both kinds of storage."""

    @initialize(disk=st.booleans())
    def begin(self, disk: bool) -> None:
        self.storage = SimDisk() if disk else SimObjects()
        self.attempts: list[Attempt] = []
        self.fixed: dict[int, list[int]] = {}  # epoch -> its operations, once a later attempt has begun
        self.floor = self.highest_trim = 1
        self.next = 0
        self.seen: LogView | None = None  # as somebody read it some time before
        self.killed: list[Attempt] = []
        self.take_over()

    def calm(self) -> None:
        self.storage.before = self.storage.after = lambda operation, key: None

    @property
    def current(self) -> Attempt:
        return self.attempts[-1]

    def append(self, attempt: Attempt, durable: bool) -> None:
        n, self.next = self.next, self.next + 1
        attempt.appended.append(n)
        attempt.state[n] = "refused"
        attempt.lsn[n] = op(attempt.writer, n, durable=durable)
        attempt.state[n] = "queued"
        if durable:
            self.acknowledge(attempt)

    def acknowledge(self, attempt: Attempt) -> None:
        """All that was queued is durable now."""
        attempt.state.update({n: "acknowledged" for n, state in attempt.state.items() if state == "queued"})

    def act(self, attempt: Attempt, action: str) -> None:
        if action in ("append", "queue"):
            self.append(attempt, action == "append")
        elif action == "trim":
            self.trim(attempt)
        else:
            getattr(attempt.writer, action)()
            self.acknowledge(attempt)

    def trim(self, attempt: Attempt) -> None:
        before = attempt.writer.position - (1 << 32)
        self.highest_trim = max(self.highest_trim, lsn_slot(before))  # a trim that fails may have happened
        attempt.writer.trim(before)
        if all(lsn <= attempt.writer.acknowledged for lsn in attempt.lsn.values()):
            self.acknowledge(attempt)  # where the floor moved, a SEAL took what was queued along
        self.floor = read_log(self.storage, NAMES, KEY).floor

    @rule(action=st.sampled_from(["append", "queue", "queue", "flush", "rotate", "trim"]))
    def do(self, action: str) -> None:
        self.act(self.current, action)

    @rule(action=st.sampled_from(["append", "queue", "flush", "rotate", "trim"]), fault=FAULTS)
    def do_with_a_fault(self, action: str, fault: tuple[str, str, type[StorageError], int]) -> None:
        when, operation, error, nth = fault
        setattr(self.storage, when, Fault(operation, error("injected"), nth))
        try:
            self.act(self.current, action)
        except StorageError:
            pass
        finally:
            self.calm()

    @rule()
    def take_over(self) -> None:
        """The process before may be gone, or stay as a zombie: that depends on the rules that follow."""
        writer, view = take_over(self.storage, known=self.seen)
        assert view.damages == []
        assert writer.epoch == view.epoch + 1
        for attempt in self.attempts:
            found = self.operations(view.records, attempt.writer.epoch)
            self.check_attempt(attempt, found, view.floor)
            self.fixed[attempt.writer.epoch] = [record.head["n"] for record in found]
        self.attempts.append(Attempt(writer))

    @rule(call=st.integers(1, 14), action=st.sampled_from(["append", "flush", "rotate"]))
    def take_over_while_the_old_one_works(self, call: int, action: str) -> None:
        old, left = self.current, call

        def interfere(operation: str, key: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                try:
                    self.act(old, action)
                except FencedError:
                    pass

        self.storage.before = interfere
        try:
            self.take_over()
        finally:
            self.calm()

    @rule(fault=FAULTS)
    def take_over_with_a_fault(self, fault: tuple[str, str, type[StorageError], int]) -> None:
        when, operation, error, nth = fault
        setattr(self.storage, when, Fault(operation, error("injected"), nth))
        try:
            self.take_over()
        except StorageError:
            self.calm()
            self.take_over()  # its own failed FENCE is one more attempt that came to nothing
        finally:
            self.calm()

    @precondition(lambda self: len(self.attempts) > 1)
    @rule(data=st.data(), action=st.sampled_from(["append", "flush", "rotate", "trim"]))
    def zombie_wakes_up(self, data: st.DataObject, action: str) -> None:
        zombie = data.draw(st.sampled_from(self.attempts[:-1]))
        queued = [n for n, state in zombie.state.items() if state == "queued"]
        try:
            self.act(zombie, action)
            assert action != "append", "a zombie was told that it had committed something"
            assert action == "trim" or not queued, "a zombie was told that it had committed something"
        except StorageError:
            assert zombie in self.killed
        except FencedError:
            pass

    @rule(seed=st.integers(0, 2**16), action=st.sampled_from(["append", "flush", "rotate"]), call=st.integers(1, 8))
    def kill_and_lose_power(self, seed: int, action: str, call: int) -> None:
        """The process dies inside a call, or between two; the machine loses power; somebody starts the run again."""
        self.storage.before = Fault("any", KeyboardInterrupt(), call)
        try:
            self.act(self.current, action)
        except KeyboardInterrupt:
            self.killed.append(self.current)
        self.calm()
        if isinstance(self.storage, SimDisk):
            self.storage.lose_power(random.Random(seed))
        self.take_over()

    @rule(seed=st.integers(0, 2**16))
    def lose_power_after_a_takeover(self, seed: int) -> None:
        self.storage.before = Fault("sync", KeyboardInterrupt())
        try:
            self.append(self.current, durable=True)
        except KeyboardInterrupt:
            self.killed.append(self.current)
        self.calm()
        self.take_over()
        if isinstance(self.storage, SimDisk):
            self.storage.lose_power(random.Random(seed))

    @rule()
    def look(self) -> None:
        self.seen = read_log(self.storage, NAMES, KEY)

    @invariant()
    def log_says_what_the_model_says(self) -> None:
        view = read_log(self.storage, NAMES, KEY)
        assert view.damages == []
        lsns = [record.lsn for record in view.records]
        assert lsns == sorted(set(lsns))
        assert self.floor <= view.floor <= self.highest_trim
        for attempt in self.attempts:
            found = self.operations(view.records, attempt.writer.epoch)
            self.check_attempt(attempt, found, view.floor)
            fixed = self.fixed.get(attempt.writer.epoch)
            if fixed is not None:
                kept = [n for n in fixed if attempt.lsn.get(n, lsn_of(view.floor, 0)) >= lsn_of(view.floor, 0)]
                numbers = [record.head["n"] for record in found]
                assert [n for n in numbers if n in kept] == kept or not self.all_known(attempt, kept)
                assert set(numbers) <= set(fixed)

    def all_known(self, attempt: Attempt, numbers: list[int]) -> bool:
        """Whether the LSNs of all are known: an append that raised returned none."""
        return all(n in attempt.lsn for n in numbers)

    def operations(self, records: list[Record], epoch: int) -> list[Record]:
        return [record for record in records if record.kind is Kind.OPERATION and record.epoch == epoch]

    def check_attempt(self, attempt: Attempt, found: list[Record], floor: int) -> None:
        numbers = [record.head["n"] for record in found]
        assert all(attempt.lsn.get(record.head["n"], record.lsn) == record.lsn for record in found)
        positions = [attempt.appended.index(n) for n in numbers]
        assert positions == sorted(set(positions))
        last = max(positions, default=-1)
        for position, n in enumerate(attempt.appended):
            trimmed = n in attempt.lsn and lsn_slot(attempt.lsn[n]) < floor
            if n in numbers or trimmed or attempt.state[n] == "refused":
                continue
            assert attempt.state[n] != "acknowledged", f"acknowledged operation {n} is lost"
            assert position > last, f"operation {n} is missing in the middle"


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLog = LogMachine.TestCase
