"""Stores that each strategy wrote (chunks, patches over them, several packs), damaged anywhere: never a wrong result.

The seed of the places is printed; set ``CRASH_SEED`` to draw them again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import damage
from crash.harness import ForkHost, Kill
from crash.test_corruption import MINE
from programs.staging import STRATEGIES, make_small, missing
from proofs.common import Sample, only_run
from proofs.corruption import Change, Prover

from ckpt.history import history_of
from ckpt.log import read_log
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef
from ckpt.snapshot.reference import Packed

SEED = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(10**6)))
HEADERS = 128


@pytest.fixture(params=[name for name in STRATEGIES if name != "auto"])  # which writes as one of the others does
def strategy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    reason = missing(request.param)
    if reason:
        pytest.skip(reason)
    print(f"CRASH_SEED={SEED}")
    make_small(monkeypatch.setattr)
    return str(request.param)


@pytest.fixture
def wreck(strategy: str, fork_host: ForkHost, scratch: Path) -> damage.Wreck:
    """A run that was killed twice."""
    made = damage.make(fork_host, "staged_small", scratch / "made", Kill(tick=8), STAGING=strategy)
    assert len(made.packs()) >= 2
    patched = sum(ref.body.patched for ref in references(made.store) if isinstance(ref.body, Packed))
    assert (patched >= 2) == (strategy not in ("copy", "streaming"))
    return made


def references(store: Path) -> Iterator[SnapshotRef]:
    """The states of all checkpoints that are in the log."""
    root = StoreRoot.open(store)
    for checkpoint in history_of(read_log(root.storage, only_run(store), root.key).records).checkpoints:
        yield from (SnapshotRef.decode(section) for section in checkpoint.sections)


def flipped(data: bytes, offset: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def changes(files: dict[str, bytes]) -> Iterator[Change]:
    """Bits all over the store, most of all where packs begin; lengths; files that are gone, empty or another's."""
    rng = random.Random(SEED)
    for name, data in sorted(files.items()):
        yield "taken away", name, None
        for length in (0, rng.randrange(1 + len(data)), max(0, len(data) - 1)):
            yield f"cut to {length} bytes", name, data[:length]
        for other, content in sorted(files.items()):
            if Path(other).suffix == Path(name).suffix and content != data:
                yield f"exchanged for {other}", name, content
        offsets = rng.sample(range(min(len(data), HEADERS)), min(len(data), 6))
        offsets += [rng.randrange(len(data)) for _ in range(12)] if len(data) > HEADERS else []
        for offset in offsets:
            yield f"a bit of byte {offset} flipped", name, flipped(data, offset, rng.randrange(8))


def test_damage_is_found_or_an_older_checkpoint_stands_in_for_every_strategy(wreck: damage.Wreck, scratch: Path) -> None:
    files = {name: (wreck.store / name).read_bytes() for name in wreck.files()}
    prover = Prover(Sample("staged_small, killed", files, wreck.expected), scratch / "prover")
    assert len(prover.allowed) >= 3, "there is no older checkpoint that could stand in"
    for change in changes(files):
        prover.prove(change, thorough=False)
    verdicts: Counter[str] = prover.counts
    assert verdicts["reported, refused: CorruptionError"] > 10, verdicts
    assert verdicts["reported, right all the same"] > 10, verdicts


def test_job_goes_on_right_or_with_a_typed_error_over_damage_for_every_strategy(
    strategy: str, wreck: damage.Wreck, scratch: Path
) -> None:
    files = {name: (wreck.store / name).read_bytes() for name in wreck.files()}
    rng, verdicts = random.Random(SEED), Counter[str]()
    chosen = [change for change in changes(files) if change[1].endswith((".pack", ".log"))]
    gone = [change for change in chosen if change[2] is None]
    for what, name, data in [*gone, *rng.sample(chosen, 6)]:
        form = wreck.copy(scratch / "copy")
        path = form.folder / "store" / name
        path.unlink() if data is None else path.write_bytes(data)
        attempt = form.run(STAGING=strategy, **damage.EVERY)
        verdict = wreck.verdict(attempt)
        assert verdict in {"right", *MINE}, f"{name}, {what}: {verdict}\n{attempt.err}"
        verdicts[verdict] += 1
    assert verdicts["right"] > 1, verdicts
