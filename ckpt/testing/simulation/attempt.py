"""One attempt of the simulated run: takes over, recovers, and then does at random what a job makes ckpt do."""

from __future__ import annotations

import json
import random
from typing import Any

from ckpt.errors import FencedError, IntegrityError, StorageError
from ckpt.format.keys import Key
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.history import KEPT, history_of
from ckpt.log import LogView, LogWriter, Place, with_left_out
from ckpt.recovery import find_resume_point, needed_from, needs_left_out, results_since_start
from ckpt.retention import Retention
from ckpt.session.attempt import kept_checkpoints
from ckpt.snapshot import SnapshotRef, SnapshotWriter, read_snapshot
from ckpt.staging import Stager
from ckpt.testing.clock import FakeClock
from ckpt.testing.simulation.model import Model, Violation
from ckpt.testing.simulation.world import ObjectPort

NAMES = RunNames("simulated", "run")
KEY = Key.from_secret(bytes(range(32)))
KEEP = 2
BALLAST = bytes(range(256)) * 24
"""A part that never changes: later checkpoints name the chunk that an earlier one has stored."""


class Attempt:
    """``run`` is what its greenlet executes. ``ended``: how it ended, or '' while it goes on."""

    def __init__(self, port: ObjectPort, model: Model, rng: random.Random, actions: int, *, rotten: bool) -> None:
        self.port, self.model, self.rng, self.actions, self.rotten = port, model, rng, actions, rotten
        self.ended = ""
        self.state: list[int] = []
        self.epoch = 0
        self._checkpoints = 0
        self._stager = Stager()

    def run(self) -> None:
        """Everything from takeover to the end."""
        try:
            self._begin()
            for _ in range(self.actions):
                self._act()
            self.ended = "done"
        except FencedError:
            self.ended = "fenced"
        except StorageError as error:
            self.ended = f"gave up: {error.what}"
        except IntegrityError as error:
            if not self.rotten:
                raise Violation(f"attempt {self.epoch} found damage that nobody did: {error}") from error
            self.ended = f"refused: {error.what}"
        self.port.world.note(f"{self.port.name} {self.ended}")

    # -- the beginning --------------------------------------------------------------------------------------

    def _begin(self) -> None:
        port = self.port
        place = Place(port, NAMES, KEY, self.rng.randbytes, FakeClock())
        fence = {"host": port.name, "pid": 1, "started": 0.0}
        self.log, view = LogWriter.take_over(place, fence=fence, needed_from=needed_from)
        self.epoch = self.log.epoch
        self.model.begins(self.epoch)
        if view.damages and not self.rotten:
            raise Violation(f"attempt {self.epoch} found damage that nobody did: {view.damages}")
        self.snapshots = SnapshotWriter(port, NAMES, KEY, self.epoch, inline_limit=64, entropy=self.rng.randbytes)
        self.retention = Retention(port, NAMES, self.log, self.snapshots, keep=KEEP, running={"status": "running"})
        with self.log.unless_overtaken():
            self._recover(view)
        self.retention.sweep_orphans()

    def _recover(self, view: LogView) -> None:
        history = history_of(view.records)
        point = find_resume_point(view, history, NAMES, self._read)
        if needs_left_out(view, point):
            view = with_left_out(view, NAMES, KEY)
            history = history_of(view.records)
            point = find_resume_point(view, history, NAMES, self._read)
        if point is None:
            later = results_since_start(history)
        else:
            self.state = _decode(point.parts[0])
            later = point.operations
            self.snapshots.adopt(point.refs)
        self.state += [int(identity.hex(), 16) for identity, _ in later]
        self.model.recovers(self.epoch, self.state, None if self.rotten else -1 if point is None else point.lsn)
        self._checkpoints = history.last_number
        self.retention.recovered(kept_checkpoints(history, point, KEEP))

    def _read(self, ref: SnapshotRef) -> list[Any]:
        with self.log.unless_overtaken():
            return [*read_snapshot(ref, self.port, NAMES, KEY)]

    # -- what a job does ------------------------------------------------------------------------------------

    def _act(self) -> None:
        action = self.rng.choice(("durable", "durable", "durable", "queued", "queued", "flush", "checkpoint", "rotate"))
        self.port.world.note(f"{self.port.name} ({self.epoch}): {action}")
        try:
            if action in ("durable", "queued"):
                self._append(durable=action == "durable")
            elif action == "flush":
                self.log.flush()
                self.model.acknowledged(self.epoch)
            elif action == "rotate":
                self.log.rotate()
            else:
                self._checkpoint()
        except StorageError as error:
            self.port.world.note(f"  {action}: {error.what}")

    def _append(self, *, durable: bool) -> None:
        number = len(self.model.operations) + 1
        self.model.appended(self.epoch, number)
        try:
            self.log.append(Kind.OPERATION, {"id": f"{number:032x}"}, [b"result %d" % number], durable=durable)
        except StorageError:
            self.model.failed(number)
            raise
        except FencedError:
            self.model.failed(number)
            raise
        self.state.append(number)
        if durable:
            self.model.acknowledged(self.epoch)

    def _checkpoint(self) -> None:
        covers = self.log.position
        refs = [self._write(self.state, BALLAST), self._write([], b"")]
        self._checkpoints += 1
        kept = self.retention.numbers_with(self._checkpoints)
        head = {"number": self._checkpoints, "covers": covers, "path": [], KEPT: kept}
        lsn = self.log.append(Kind.CHECKPOINT, head, [ref.encode() for ref in refs])
        self.model.checkpointed(self.epoch, lsn)
        if self.rng.random() < 0.5:
            self.log.rotate()
        packs = frozenset[str]().union(*(ref.packs for ref in refs))
        self.retention.committed(lsn, needed_from(head), packs, self._checkpoints)

    def _write(self, state: list[int], ballast: bytes) -> SnapshotRef:
        staged = self._stager.stage(json.dumps(state).encode(), [ballast])
        try:
            return self.snapshots.write(staged)
        finally:
            staged.release()


def _decode(parts: list[Any]) -> list[int]:
    if bytes(parts[1]) != BALLAST:
        raise Violation("a snapshot came back different")
    found: list[int] = json.loads(bytes(parts[0]))
    return found
