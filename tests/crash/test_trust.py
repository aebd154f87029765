"""A store changed by somebody without its key is refused before anything is unpickled: the bomb never goes off."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from crash import damage
from crash.harness import ForkHost, Kill

from ckpt.format.keys import UNSIGNED, Key
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, encode_payload
from ckpt.format.segment import HEADER_SIZE, encode_frames, encode_header, parse_segment
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef, SnapshotWriter
from ckpt.staging import Stager
from ckpt.storage.memory import MemoryStorage

REFUSALS = {"UntrustedError", "CorruptionError"}


class Bomb:
    """Unpickling it makes the folder ``boom`` in the working directory."""

    def __reduce__(self) -> object:
        return os.mkdir, ("boom",)


def went_off(folder: Path) -> bool:
    return (folder / "boom").exists()


@pytest.fixture(params=["small_state", "state_in_packs"])
def wreck(request: pytest.FixtureRequest, fork_host: ForkHost, scratch: Path) -> damage.Wreck:
    return damage.make(fork_host, request.param, scratch / "made", Kill(tick=4))


def inline_bomb(names: RunNames, key: Key) -> bytes:
    return (
        SnapshotWriter(MemoryStorage("bombs"), names, key, 1).write(Stager().stage(pickle.dumps(Bomb()), [])).encode()
    )


def rewritten(path: Path, store: Path, owner: Key, forger: Key, header: str) -> bytes:
    """The segment with bombs in place of every value, its frames chained and its snapshots signed by ``forger``.

    ``header``: "kept" as the owner made it, "forged" by the forger under the owner's key id, or the forger's "own".
    """
    names = RunNames(path.parts[-4], path.parts[-3])
    slot, data = int(path.stem), path.read_bytes()
    parsed = parse_segment(data, owner, names, slot)
    assert parsed.header is not None
    assert not parsed.damages
    signer = replace(forger, id=owner.id) if header == "forged" else forger
    if header == "kept":
        head, seed = data[:HEADER_SIZE], parsed.header.seed
    else:
        head, seed = encode_header(signer, names, slot, parsed.header.epoch, parsed.header.nonce)
    records = []
    for record in parsed.records:
        sections: list[bytes] = [bytes(section) for section in record.sections]
        if record.kind is Kind.OPERATION:
            sections = [pickle.dumps(Bomb()) for _ in sections]
        elif record.kind is Kind.CHECKPOINT:
            states = [inline_bomb(names, signer) if is_reference(old) else old for old in sections[:-1]]
            sections = [*states, sections[-1]]  # the last one is the index of the results
        records.append((record.lsn, int(record.kind), encode_payload(record.head, sections)))
    frames, _ = encode_frames(signer, seed, parsed.header.epoch, records)
    return head + b"".join(frames)


def is_reference(section: bytes) -> bool:
    from ckpt.errors import IntegrityError

    try:
        SnapshotRef.decode(section)
    except IntegrityError:
        return False
    return True


@pytest.mark.parametrize("header", ["kept", "forged", "own"])
@pytest.mark.parametrize("forger", ["stranger", "unsigned"])
def test_bomb_in_a_rewritten_log_does_not_go_off(header: str, forger: str, wreck: damage.Wreck, scratch: Path) -> None:
    form = wreck.copy(scratch / "copy")
    store = form.folder / "store"
    owner = StoreRoot.open(store).key
    stranger = (UNSIGNED if forger == "unsigned" else Key.from_secret(b"stranger" * 4)).of_store(
        owner.store, encrypts=False
    )
    for name in wreck.segments():
        (store / name).write_bytes(rewritten(wreck.store / name, store, owner, stranger, header))
    attempt = form.run(**damage.EVERY)
    assert not went_off(form.folder), "a stranger's code was run"
    assert wreck.verdict(attempt) in REFUSALS, attempt.err


def test_the_bomb_works_when_it_is_signed_with_the_stores_key(wreck: damage.Wreck, scratch: Path) -> None:
    form = wreck.copy(scratch / "copy")
    store = form.folder / "store"
    owner = StoreRoot.open(store).key
    for name in wreck.segments():
        (store / name).write_bytes(rewritten(wreck.store / name, store, owner, owner, "own"))
    attempt = form.run(**damage.EVERY)
    assert went_off(form.folder), attempt.err + "this test's bomb is a dud, so the tests above prove nothing"


def test_bomb_in_a_pack_does_not_go_off(fork_host: ForkHost, scratch: Path) -> None:
    wreck = damage.make(fork_host, "state_in_packs", scratch / "made", Kill(tick=4))
    form = wreck.copy(scratch / "copy")
    bomb = pickle.dumps(Bomb())
    for name in wreck.packs():
        path = form.folder / "store" / name
        data = path.read_bytes()
        path.write_bytes(data[:128] + (bomb * (len(data) // len(bomb) + 1))[: len(data) - 128])
    attempt = form.run(**damage.EVERY)
    assert not went_off(form.folder)
    assert wreck.verdict(attempt) in {*REFUSALS, "right"}, attempt.err


def test_another_key_is_refused(wreck: damage.Wreck, scratch: Path) -> None:
    form = wreck.copy(scratch / "copy")
    (form.folder / "store" / "key").write_text(Key.from_secret(b"somebody" * 4).to_text())
    assert wreck.verdict(form.run(**damage.EVERY)) == "UntrustedError"
