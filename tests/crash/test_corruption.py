"""Flipped bits and missing files anywhere in a store: the right result or a typed error, never a wrong value."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from crash import damage
from crash.harness import ForkHost, Kill, base_environment

SEED = 20241
MINE = {
    "CorruptionError", "UntrustedError", "UnknownFormatError", "MissingKeyError", "StorageError", "OptionError",
    "RunNotFoundError", "FencedError",
}  # fmt: skip


@pytest.fixture(params=["small_state", "state_in_packs"])
def wreck(request: pytest.FixtureRequest, fork_host: ForkHost, scratch: Path) -> damage.Wreck:
    return damage.make(fork_host, request.param, scratch / "made", Kill(tick=4))


def flip(path: Path, offset: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def places(wreck: damage.Wreck, count: int) -> list[tuple[str, int, int]]:
    """Bits all over the store: every file gets its share, the small parts (headers, small files) all of theirs."""
    rng, found = random.Random(SEED), []
    for name in wreck.files():
        size = (wreck.store / name).stat().st_size
        offsets = set(range(min(size, 24))) | {rng.randrange(size) for _ in range(count)} if size else set()
        found += [(name, offset, rng.randrange(8)) for offset in sorted(offsets)]
    return found


@pytest.mark.slow
def test_a_flipped_bit_anywhere_never_gives_a_wrong_result(wreck: damage.Wreck, scratch: Path) -> None:
    verdicts: Counter[str] = Counter()
    for name, offset, bit in places(wreck, 60):
        form = wreck.copy(scratch / "copy")
        flip(form.folder / "store" / name, offset, bit)
        attempt = form.run(**damage.EVERY)
        try:
            verdicts[wreck.verdict(attempt)] += 1
        except AssertionError as error:
            raise AssertionError(f"bit {bit} of byte {offset} of {name} (seed {SEED}): {error}") from None
    assert set(verdicts) <= {"right", *MINE}, verdicts
    assert verdicts["CorruptionError"] + verdicts["UntrustedError"] > 0, verdicts


def test_any_missing_file_never_gives_a_wrong_result(wreck: damage.Wreck, scratch: Path) -> None:
    for name in wreck.files():
        form = wreck.copy(scratch / "copy")
        (form.folder / "store" / name).unlink()
        verdict = wreck.verdict(form.run(**damage.EVERY))
        assert verdict in {"right", *MINE}, f"without {name}: {verdict}"


def test_swapped_and_emptied_files_never_give_a_wrong_result(wreck: damage.Wreck, scratch: Path) -> None:
    names = wreck.files()
    for name in names:
        for other in [None, *[n for n in names if n != name and Path(n).suffix == Path(name).suffix]]:
            form = wreck.copy(scratch / "copy")
            store = form.folder / "store"
            (store / name).write_bytes((wreck.store / other).read_bytes() if other else b"")
            verdict = wreck.verdict(form.run(**damage.EVERY))
            assert verdict in {"right", *MINE}, f"{name} replaced by {other}: {verdict}"


def test_typed_error_names_path_and_offset(wreck: damage.Wreck, scratch: Path) -> None:
    form = wreck.copy(scratch / "copy")
    segment = form.folder / "store" / wreck.segments()[0]
    flip(segment, 60, 0)
    attempt = form.run(**damage.EVERY)
    if wreck.verdict(attempt) != "right":
        assert segment.name in attempt.err
        assert "byte" in attempt.err


@pytest.mark.parametrize("kind", ["log", "pack"])
def test_verify_finds_a_flipped_bit(kind: str, fork_host: ForkHost, scratch: Path) -> None:
    wreck = damage.make(fork_host, "state_in_packs", scratch / "made", Kill(tick=4))

    def verify(store: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ckpt", "verify"]
        return subprocess.run(command, check=False, env=base_environment(store), capture_output=True, text=True)

    good = verify(wreck.store)
    assert good.returncode == 0, good.stdout + good.stderr
    names = wreck.segments() if kind == "log" else wreck.packs()
    rng, harmful = random.Random(SEED), 0
    for _ in range(6):
        name = rng.choice(names)
        offset = rng.randrange((wreck.store / name).stat().st_size)
        form = wreck.copy(scratch / "copy")
        flip(form.folder / "store" / name, offset, 1)
        found = verify(form.folder / "store")
        if found.returncode == 0:  # a byte that no checkpoint needs any more, then
            assert form.run(**damage.EVERY).result == wreck.expected, f"byte {offset} of {name} was not found"
            continue
        harmful += 1
        assert Path(name).name in found.stdout + found.stderr
    assert harmful >= 2
