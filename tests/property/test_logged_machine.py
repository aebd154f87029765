"""Operation-logged objects of a block against a plain dict, list and number: operations, ends of iterations, checkpoints, kills.

The program runs in a thread of its own and does what the machine says. A kill copies the store as it is and lets go of
the attempt; the next one goes on in the copy. What must hold then: it is at the beginning of an iteration (or behind a
``run.checkpoint()`` in it), the newest one with ``sync="always"``, and the objects are what they were there.
"""

from __future__ import annotations

import copy
import queue
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import ckpt
from ckpt.session import journal

Change = tuple[str, int]
Model = tuple[dict[int, Any], list[Any], list[int]]


class Abandoned(BaseException):
    """The process is dead, as far as the store knows."""


class Program(threading.Thread):
    """One attempt. ``scripts``: what each iteration has done so far; those on the way are done again from there."""

    def __init__(self, store: Path, sync: str, every: str, scripts: dict[int, list[Change]]) -> None:
        super().__init__(daemon=True)
        self.store, self.sync, self.every, self.scripts = store, sync, every, scripts
        self.commands: queue.Queue[Change] = queue.Queue()
        self.answers: queue.Queue[Any] = queue.Queue()
        self.start()

    def ask(self, what: str, value: int = 0) -> Any:
        self.commands.put((what, value))
        return self.answer()

    def answer(self) -> Any:
        answer = self.answers.get(timeout=60)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run(self) -> None:
        try:
            self.work()
        except Abandoned:
            self.answers.put("gone")
        except BaseException as error:  # noqa: BLE001 - the machine raises it
            self.answers.put(error)

    def work(self) -> None:
        with ckpt.open("machine", store=self.store, sync=self.sync, every=self.every) as run:
            held = run.dict("dict"), run.list("list"), run.counter("number")
            for index in run.loop(range(10_000)):
                run._saving.wait_idle()  # what there is to resume from does not depend on how fast the threads are
                script = list(self.scripts.get(index, ()))
                for what, value in script:
                    self.do(run, held, what, value)
                self.answers.put(index)
                while True:
                    what, value = self.commands.get()
                    if what == "next":
                        break
                    self.answers.put(self.do(run, held, what, value))

    def do(self, run: Any, held: Any, what: str, value: int) -> Any:
        if what == "die":
            run._saving.wait_idle()
            shutil.copytree(self.store, f"{self.store}+")
            raise Abandoned
        if what == "checkpoint":
            run.checkpoint()
        elif what == "state":
            return dict(held[0]), list(held[1]), [held[2].value]
        else:
            change(held, what, value)
        return None


def change(held: Any, what: str, value: int) -> None:
    """The same for logged objects and for the model."""
    mapping, sequence, number = held
    if what == "set":
        mapping[value % 5] = [value, len(sequence)]
    elif what == "del":
        mapping.pop(value % 5, None)
    elif what == "append":
        sequence.append(value)
    elif what == "pop":
        if sequence:
            sequence.pop(value % len(sequence))
    elif isinstance(number, list):
        number[0] += value
    else:
        number.add(value)


CHANGES = ("set", "del", "append", "pop", "add")


class LoggedMachine(RuleBasedStateMachine):
    @initialize(sync=st.sampled_from(["always", "interval:1h"]), every=st.sampled_from(["1it", "3it", "1h"]))
    def begin(self, sync: str, every: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ckpt-logged-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.store, self.sync, self.every = self.folder / "s", sync, every
        self.model: Model = {}, [], [0]
        self.scripts: dict[int, list[Change]] = {}
        self.changed: dict[int, bool] = {}  # whether an iteration did anything
        self.before: dict[int, Model] = {0: copy.deepcopy(self.model)}  # at the beginning of each iteration
        self.open()

    def open(self) -> None:
        self.program = Program(self.store, self.sync, self.every, self.scripts)
        self.index = self.program.answer()

    @rule(what=st.sampled_from(CHANGES), value=st.integers(-20, 20))
    def operation(self, what: str, value: int) -> None:
        self.program.ask(what, value)
        before = copy.deepcopy(self.model)
        change(self.model, what, value)
        self.scripts.setdefault(self.index, []).append((what, value))
        self.changed[self.index] = self.changed.get(self.index, False) or self.model != before

    @rule(count=st.integers(1, 4))
    def end_of_iterations(self, count: int) -> None:
        for _ in range(count):
            self.program.commands.put(("next", 0))
            self.index = self.program.answer()
            self.before[self.index] = copy.deepcopy(self.model)
            self.scripts.pop(self.index, None)
            self.changed.pop(self.index, None)

    @rule()
    def checkpoint(self) -> None:
        if ("checkpoint", 0) in self.scripts.get(self.index, ()):
            return  # a second one at the same place stands for the first, and the block's variables do not come back
        self.program.ask("checkpoint")
        self.scripts.setdefault(self.index, []).append(("checkpoint", 0))

    @rule()
    def kill(self) -> None:
        last, scripts = self.index, copy.deepcopy(self.scripts)
        assert self.program.ask("die") == "gone"
        self.program.join(60)
        shutil.rmtree(self.store)
        self.store = Path(f"{self.store}+")
        # Up to the newest checkpoint() the program does again what it did; behind it, what somebody says.
        newest = max((index for index, script in scripts.items() if ("checkpoint", 0) in script), default=-1)
        self.scripts = {index: script for index, script in scripts.items() if index < newest}
        self.scripts[newest] = done_again(scripts.get(newest, []))
        self.open()
        assert self.index <= last
        if self.sync == "always":
            again = range(self.index, last)
            assert not any(self.changed.get(index) for index in again), "a committed iteration is executed again"
        while self.index < newest:  # the way to the checkpoint, from where its loop was last known
            self.program.commands.put(("next", 0))
            self.index = self.program.answer()
        self.model = copy.deepcopy(self.before[self.index])
        for what, value in self.scripts.get(self.index, ()):
            if what in CHANGES:
                change(self.model, what, value)

    @invariant()
    def objects_are_what_the_model_is(self) -> None:
        if hasattr(self, "program"):
            assert self.program.ask("state") == self.model

    def teardown(self) -> None:
        if hasattr(self, "program"):
            self.program.ask("die")
            self.program.join(60)
            shutil.rmtree(self.folder)


def done_again(script: list[Change]) -> list[Change]:
    """The part of an iteration up to its last ``checkpoint()``."""
    last = max((number for number, (what, _) in enumerate(script, 1) if what == "checkpoint"), default=0)
    return script[:last]


def test_random_operations_and_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    # Small bounds: operations are spilled in the middle of iterations, and images are taken often.
    monkeypatch.setattr(journal, "SPILL", 3)
    monkeypatch.setattr(journal, "IMAGE_BYTES", 200)
    run_state_machine_as_test(LoggedMachine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))
