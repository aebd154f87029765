"""Other packages that save state or record results: the same data, each in an environment of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import CannotInstall, python_with
from benchmarks.harness import Bench, Row, compare, not_measured
from benchmarks.programs.limits import Limits

PEERS = Path(__file__).parent / "peers"
NUMPY = "numpy==2.4.6"
PEER_S = 300


@dataclass(frozen=True, slots=True)
class Peer:
    """``packages`` are pinned; none: what this environment has. ``durable``: what holds when its save is complete."""

    name: str
    label: str
    durable: str
    packages: tuple[str, ...] = ()


SAVING = (
    Peer("pickle", "pickle.dump", "not synced"),
    Peer("pickle_synced", "pickle.dump + fsync", "synced"),
    Peer("cloudpickle", "cloudpickle 3.1.3", "not synced", ("cloudpickle==3.1.3", NUMPY)),
    Peer("joblib", "joblib 1.6.0", "not synced", ("joblib==1.6.0", NUMPY)),
    Peer("safetensors", "safetensors 0.8.0", "not synced", ("safetensors==0.8.0", NUMPY)),
    Peer("torch", "torch.save 2.13.0", "not synced", ("torch==2.13.0", NUMPY)),
    Peer("dcp", "torch DCP async_save 2.13.0", "synced", ("torch==2.13.0", NUMPY)),
    Peer("orbax", "Orbax 0.12.8 async", "synced by tensorstore", ("orbax-checkpoint==0.12.8", NUMPY)),
)
RECORDING = (
    Peer("sqlite", "sqlite3, WAL, synchronous=FULL", "synced"),
    Peer("dbos", "DBOS 3.4.0 on SQLite", "as it comes", ("dbos==3.4.0",)),
    Peer("diskcache", "diskcache 5.6.3", "not synced", ("diskcache==5.6.3",)),
    Peer("joblib", "joblib.Memory 1.6.0", "not synced", ("joblib==1.6.0",)),
)
ASPECTS = {
    "stall_full": ("stall, all of it new", "s"),
    "total_full": ("until complete, all of it new", "s"),
    "stall_small": ("stall, 1 % changed", "s"),
    "total_small": ("until complete, 1 % changed", "s"),
    "bytes_small": ("bytes written, 1 % changed", "B"),
    "peak": ("peak of memory, state included", "B"),
    "restore": ("restore, warm", "s"),
}
DBOS_TARGET = 0.1


def measure_saving(bench: Bench) -> list[Row]:
    mib = bench.size(256, 32)
    label = f"W1 {mib} MiB"
    ours, found, missing = _in_turn(bench, "saving", mib, SAVING)
    rows = [not_measured(f"{label}: {peer.label}", why) for peer, why in missing.items()]
    limits = Limits(mib << 20, bench.folder)
    disk = [limits.write_direct() for _ in range(len(ours) + 1)][1:]  # the first maps memory
    rows.append(
        compare(
            f"{label}: until complete, all of it new",
            [float(each["total_full"]) for each in ours],
            ("O_DIRECT write + fsync of as many bytes", disk),
            note="what the disk needs for any save that survives a power loss",
        )
    )
    for aspect, (title, unit) in ASPECTS.items():
        rows += [
            compare(
                f"{label}: {title}",
                [float(each[aspect]) for each in ours],
                (f"{peer.label} ({peer.durable})", [float(each[aspect]) for each in theirs]),
                unit=unit,
                target=1.0,
            )
            for peer, theirs in found.items()
        ]
    return rows


def measure_recording(bench: Bench) -> list[Row]:
    count = bench.size(500, 100)
    ours, found, missing = _in_turn(bench, "recording", count, RECORDING)
    rows = [not_measured(f"a recorded step: {peer.label}", why) for peer, why in missing.items()]
    return rows + [
        compare(
            "a recorded step, synced",
            [float(each["step"]) for each in ours],
            (f"{peer.label} ({peer.durable})", [float(each["step"]) for each in theirs]),
            target=DBOS_TARGET if peer.name == "dbos" else 1.0,
        )
        for peer, theirs in found.items()
    ]


Values = list[dict[str, Any]]


def _in_turn(
    bench: Bench, program: str, size: int, peers: Sequence[Peer]
) -> tuple[Values, Mapping[Peer, Values], Mapping[Peer, str]]:
    """What ckpt and the peers say, round by round; and why those are missing that failed, or cannot be installed."""
    missing: dict[Peer, str] = {}
    pythons: dict[Peer, Path] = {}
    for peer in peers:
        try:
            pythons[peer] = python_with(peer.packages, install=not bench.quick) if peer.packages else Path(sys.executable)
        except CannotInstall as why:
            missing[peer] = str(why)
    ours: Values = []
    found: dict[Peer, Values] = {peer: [] for peer in pythons}
    for turn in range(bench.size(5, 2)):
        present = [peer for peer in found if peer not in missing]
        for peer in present if turn % 2 == 0 else present[::-1]:
            try:
                found[peer].append(_peer(bench, pythons[peer], program, peer.name, size))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                missing[peer] = f"failed: {error}"
        ours.append(_ours(bench, program, size))
    return ours, {peer: values for peer, values in found.items() if peer not in missing}, missing


def _ours(bench: Bench, program: str, size: int) -> dict[str, Any]:
    folder = bench.new_folder()
    child = bench.child("peer.py", program, size, store=folder / "store")
    if program == "recording":
        said = child.last()
    else:
        said = child.next()
        child.wait_killed()
        said |= bench.child("peer.py", "resumed", size, store=folder / "store").last()
    shutil.rmtree(folder)
    return said


def _peer(bench: Bench, python: Path, program: str, name: str, size: int) -> dict[str, Any]:
    folder = bench.new_folder()
    command = [str(python), str(PEERS / f"{program}.py"), name, str(size), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PEER_S, env=bench.environ())
    shutil.rmtree(folder)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise RuntimeError(last)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not said.get("equal", True):
        raise RuntimeError("what was restored differs from what was saved")
    return said
