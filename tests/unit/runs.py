"""Makes runs as attempts leave them, by writing their logs: for tests of what reads stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ckpt import host
from ckpt.format.names import RunNames
from ckpt.format.path import PathNode, path_text, path_to_json
from ckpt.format.records import Kind
from ckpt.holder import Holder
from ckpt.host import SystemClock
from ckpt.lease import HeldLease, acquire
from ckpt.log import LogWriter, Place
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef, SnapshotWriter
from ckpt.staging import Stager

BIG = 100_000
"""Bytes of a state that is too large to be stored inside its record."""


@dataclass
class Writing:
    """One attempt that a test plays, while it lasts."""

    root: StoreRoot
    names: RunNames
    log: LogWriter
    lease: HeldLease
    snapshots: SnapshotWriter
    number: int = 0

    @classmethod
    def start(cls, url: str | Path, job: str = "sim", run_id: str = "aaaa", **fence: Any) -> Writing:
        """Take the lease and write the FENCE, as an attempt of this process would."""
        clock = SystemClock()
        root, names = StoreRoot.open(url), RunNames(job, run_id)
        holder = Holder.this_process(clock)
        lease = acquire(root.storage, names, holder=holder, clock=clock)
        head = {
            **holder.to_json(),
            "nonce": "00",
            "command": [sys.executable, "-c", "print('started again')"],
            "cwd": str(Path.cwd()),
            "python": "3.11",
            "ckpt": "0",
            "job": job,
            "run_id": run_id,
            "arguments": "steps=9",
            "code": {},
            **fence,
        }
        log, _ = LogWriter.take_over(Place(root.storage, names, root.key, host.entropy, clock), fence=head)
        return cls(root, names, log, lease, SnapshotWriter(root.storage, names, root.key, log.epoch))

    def save(self, nbytes: int = 100, content: int | None = None) -> SnapshotRef:
        """Store a state of ``nbytes`` bytes; each content is stored once, whatever its number of uses."""
        filling = self.number if content is None else content
        staged = Stager().stage(b"skeleton", [bytearray([filling % 256]) * nbytes])
        try:
            return self.snapshots.write(staged)
        finally:
            staged.release()

    def checkpoint(self, index: int = 3, *, nbytes: int = 100, **head: Any) -> SnapshotRef:
        """Commit a checkpoint at iteration ``index`` of 9."""
        self.number += 1
        ref, results = self.save(nbytes), self.save(0)
        node: dict[str, Any] = {field.name: 0 for field in fields(PathNode)}
        node |= {"site": "sim#0", "label": "t", "line": 4, "status": "active", "base_index": index, "index": index}
        path = [PathNode(**{**node, "length": 9, "base_item": None, "item": None, "children": []})]
        full = {
            "number": self.number,
            "covers": self.log.position,
            "when": 1_700_000_000.0 + self.number,
            "reason": "trigger",
            "path": path_to_json(path),
            "where": path_text(path),
            "attempts": [{"attempt": self.log.epoch, "started": 1_700_000_000.0, "host": "h", "pid": 7}],
            "stall_s": 0.001,
            "persist_s": 0.01,
            "interval_s": 1.0,
            "nbytes": ref.nbytes,
            "stored_nbytes": ref.stored_nbytes,
            "captured": {"sim.total": 24, "sim.x": nbytes},
            "remade": ["sim.log"],
            "code": {},
            "results": [],
            "keep": 2,
            **head,
        }
        self.log.append(Kind.CHECKPOINT, full, [ref.encode(), results.encode()])
        return ref

    def operation(self, step: str = "fetch") -> None:
        head = {"id": "00", "step": step, "where": "t 3/9", "seconds": 0.25, "outcome": "ok", "bytes": 4}
        self.log.append(Kind.OPERATION, head, [b"\x80\x04N."])

    def status(self, status: str, error: str | None = None) -> None:
        head = {"status": status, "when": 1_700_000_100.0, "seconds": 4.5, "error": error, "stall_s": 0.009}
        head["cost_s"] = 0.018
        sections = []
        if status == "finished":
            head |= {"result_type": "float", "result_bytes": 24}
            sections = [self.save(24).encode()]
        self.log.append(Kind.STATUS, head, sections)

    def end(self, status: str | None = None, error: str | None = None) -> None:
        """Say ``status`` (None: nothing, as a killed process does) and let go of everything."""
        if status is not None:
            self.status(status, error)
        self.log.close()
        self.lease.release()


def make_run(url: str | Path, job: str = "sim", run_id: str = "aaaa", status: str | None = "finished") -> None:
    """A run of one attempt with two checkpoints, the second of a large state, and an operation."""
    writing = Writing.start(url, job, run_id)
    writing.checkpoint(1)
    writing.checkpoint(4, nbytes=BIG)
    writing.operation()
    writing.end(status, "ValueError: no" if status == "failed" else None)


def start_live_run(url: str | Path, job: str, run_id: str) -> subprocess.Popen[bytes]:
    """A process that plays an attempt until it is killed; it has its lease and a checkpoint when this returns."""
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from unit.runs import Writing\n"
        "writing = Writing.start(*sys.argv[2:]); writing.checkpoint(5); print('live', flush=True); time.sleep(600)"
    )
    tests = str(Path(__file__).parent.parent)
    paths = [str(Path(__file__).parents[2]), *sys.path]
    process = subprocess.Popen(
        [sys.executable, "-c", program, tests, str(url), job, run_id],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(paths)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"live\n"
    return process


CHANGES = ("put", "put_if_absent", "create_append", "delete")


def interrupt_after(calls: int, storage: Any, names: tuple[str, ...] = CHANGES) -> Any:
    """``storage`` whose calls of ``names`` raise ``Interrupted`` once ``calls`` of them have been done."""
    left = [calls]

    def counted(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                raise Interrupted
            left[0] -= 1
            return inner(*args, **kwargs)

        return call

    # Plain attributes, so that it passes for the same protocols as ``storage``.
    every = {name: getattr(storage, name) for name in dir(storage) if not name.startswith("_")}
    return SimpleNamespace(**{name: counted(value) if name in names else value for name, value in every.items()})


class Interrupted(BaseException):
    """The process dies here."""
