"""What the proofs share: their command line, small stores as a kill leaves them, and what recovery finds in a store."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from crash.harness import ForkHost, Form, Kill

from ckpt.errors import CkptError
from ckpt.format.names import RunNames
from ckpt.history import History, history_of
from ckpt.log import LogView, read_log, with_left_out
from ckpt.recovery import find_resume_point, needed_from, needs_left_out, result_record, results_since_start
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef, read_snapshot
from ckpt.store import Store

CASE_S = 20
"""A case that takes longer than this hangs."""

Found = tuple[Any, ...]
"""What a resume would go on with: ("result", parts) | ("checkpoint", number, parts, operations) | ("start", operations)."""


def main(run: Callable[[int, int], str], cycles: int, what: str) -> None:
    """The command line of a proof: ``run(cycles, seed)`` returns what it did, in a line; AssertionError fails."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--cycles", type=int, default=cycles, help="how many cases; 0: all there are")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that disks are given back
    print(f"--cycles {given.cycles} --seed {given.seed}", flush=True)
    print(run(given.cycles, given.seed))


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory, where the system has one."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="ckpt-proof-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What ckpt has to say to the user goes nowhere."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise AssertionError(f"it hangs: still at it after {CASE_S} s")


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """The block must end within ``CASE_S`` seconds."""
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(CASE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True, slots=True)
class Sample:
    """A store by its files, as kills (or the end of its run) left it, and what its run has to end with."""

    name: str
    files: dict[str, bytes]
    result: object

    def write(self, folder: Path) -> None:
        """Make ``folder`` this store."""
        shutil.rmtree(folder, ignore_errors=True)
        for name, data in self.files.items():
            put(folder / name, data)


def put(path: Path, data: bytes) -> None:
    """Write a file of a store; the key has to stay private."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if path.name == "key":
        path.chmod(0o600)


def samples(host: ForkHost, folder: Path) -> list[Sample]:
    """A killed run with its state in the log, one with packs, one encrypted, and one that is finished; each of attempts."""
    kills = {"proof_inline": [Kill(tick=3), Kill(tick=1)], "proof_packed": [Kill(tick=3), Kill(tick=1)]}
    found = [sample(host, folder / name, name, dies) for name, dies in kills.items()]
    found.append(sample(host, folder / "encrypted", "proof_packed", [Kill(tick=2), Kill(tick=1)], CKPT_ENCRYPT="1"))
    return [*found, sample(host, folder / "finished", "proof_packed", [Kill(tick=2), Kill()])]


def sample(host: ForkHost, folder: Path, name: str, kills: list[Kill], **env: str) -> Sample:
    plain = Form(host, name, folder / "plain").run(CKPT_DISABLE="1")
    assert plain.status == 0, plain.err
    form = Form(host, name, folder / "run")
    for kill in kills:
        attempt = form.run(kill, SETTLE_S="0.2", CKPT_EVERY="1it", **env)
        assert attempt.killed == (kill.tick is not None), attempt.err
    store = form.folder / "store"
    files = {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    kind = "killed" if kills[-1].tick else "finished"
    return Sample(f"{name}, {kind}{', encrypted' if env else ''}", files, plain.result)


def only_run(store: Path) -> RunNames:
    (address,) = Store(store).addresses()
    return RunNames.parse(address)


def recover(store: Path, names: RunNames) -> Found:
    """What a resume of the run would go on with. Every error of ckpt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = StoreRoot.open(store)
    read = _reader(root, names)
    view = read_log(root.storage, names, root.key, needed_from=needed_from)
    history = history_of(view.records)
    if result_record(view, history, names) is None and needs_left_out(view, find_resume_point(view, history, names, read)):
        view = with_left_out(view, names, root.key)
        history = history_of(view.records)
    return outcome(view, history, names, read)


def _reader(root: StoreRoot, names: RunNames) -> Callable[[SnapshotRef], list[Any]]:
    def read(ref: SnapshotRef) -> list[Any]:
        return [bytes(part) for part in read_snapshot(ref, root.storage, names, root.key)]

    return read


def outcome(view: LogView, history: History, names: RunNames, read: Callable[[SnapshotRef], list[Any]]) -> Found:
    """As ``recover``, of a log that was read."""
    finished = result_record(view, history, names)
    if finished is not None:
        return ("result", read(SnapshotRef.decode(finished.sections[0])))
    point = find_resume_point(view, history, names, read)
    if point is None:
        return ("start", results_since_start(history))
    return ("checkpoint", point.head["number"], [*point.parts, point.results], point.operations)


def stand_ins(store: Path, names: RunNames) -> list[Found]:
    """All that a resume of an undamaged store may go on with, if checkpoints (the newest first) cannot be used."""
    root = StoreRoot.open(store)
    view, read = read_log(root.storage, names, root.key), _reader(root, names)
    assert not view.damages
    history, found = history_of(view.records), []
    while True:
        found.append(outcome(view, history, names, read))
        if history.finished is not None or not history.checkpoints:
            return found
        history.checkpoints.pop()


def earlier_moments(store: Path, names: RunNames) -> list[Found]:
    """What a resume may go on with if the end of the log is missing: at every checkpoint whose packs are still there."""
    root = StoreRoot.open(store)
    view, read = read_log(root.storage, names, root.key), _reader(root, names)
    history, found = history_of(view.records), []
    history.finished = None
    while history.checkpoints:
        with contextlib.suppress(CkptError):
            found.append(outcome(view, history, names, read))
        history.checkpoints.pop()
    return found


def say(text: str) -> None:
    """Progress of a long run."""
    if sys.stdout.isatty():
        print(f"\r{text}\033[K", end="", flush=True)
