"""Every bit of small stores flipped, every file cut at every length, emptied, taken away and exchanged for others.

For each change: what a resume would go on with is exactly what it would have been, or where an older checkpoint stands in
with everything recorded since, or there is a typed error; it never hangs; and ``Store.verify`` reports it. Exempt from
the report is what changes nothing that is used (``harmless``), a few bytes behind an older segment (what a kill in the middle of
an append leaves, too: listed, not as damage), and a log whose newest segment is cut between two records or gone: that is a
shorter log, and is not promised to be noticed. A share of the cases goes on: the job itself is resumed in
this process, with a guard that nothing is unpickled that was not written; and the run is repaired and then resumed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash.harness import ForkHost
from programs import jobs_proofs
from programs.bits import exact

from ckpt.codecs import pickling
from ckpt.errors import CkptError, LossError
from ckpt.format.keys import Key
from ckpt.session import operations
from ckpt.store import Store
from proofs.common import (
    Found,
    Sample,
    earlier_moments,
    main,
    memory_folder,
    no_hang,
    only_run,
    put,
    quiet,
    recover,
    samples,
    say,
    stand_ins,
)

HEADERS = 256
"""So many bytes at the start of each file have every bit flipped; behind them, in files longer than ``BIG``, one each."""
BIG = 8192
RESUME_EACH = 61
"""One case of so many is resumed for real; one of so many that verify reports is repaired, too."""

UNREAD = (".gitignore", "lock")
"""Files of which no content decides anything: git's, and the text that names the holder of the lease."""

Change = tuple[str, str, bytes | None]
"""(what was done, the file, its new content; None: it is gone)."""


def changes(sample: Sample, others: list[Sample]) -> Iterator[Change]:
    """Every change of the sample that is tried."""
    rng = random.Random(7)
    for name, data in sorted(sample.files.items()):
        for offset in range(len(data)):
            bits = range(8) if len(data) <= BIG or offset < HEADERS else [rng.randrange(8)]
            for bit in bits:
                yield f"bit {bit} of byte {offset} flipped", name, _flipped(data, offset, bit)
        for length in range(len(data)):
            if len(data) <= BIG or length < HEADERS or length % 16 == 0:
                yield f"cut to {length} bytes", name, data[:length]
        yield "taken away", name, None
        yield "8 zeros behind it", name, data + bytes(8)
        yield "zeros", name, bytes(len(data))
        yield "another byte behind it", name, data + b"\x01"
        kind = Path(name).suffix or name
        for other in [sample, *others]:
            for twin, theirs in sorted(other.files.items()):
                if (Path(twin).suffix or twin) == kind and theirs != data:
                    yield f"exchanged for {twin} of {other.name}", name, theirs


def _flipped(data: bytes, offset: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 1 << bit
    return bytes(changed)


@dataclass
class Prover:
    """Tries changes of one sample; ``counts`` says what came of them."""

    sample: Sample
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.store = self.folder / "store"
        self.sample.write(self.store)
        self.names = only_run(self.store)
        self.allowed = stand_ins(self.store, self.names)
        self.earlier = [*self.allowed, *earlier_moments(self.store, self.names)]
        self.last = max(name for name in self.sample.files if name.endswith(".log"))
        self.pickles = _pickles(self.earlier)

    def prove(self, change: Change, *, thorough: bool) -> None:
        """One change; the store is whole again afterwards."""
        what, name, data = change
        path = self.store / name
        try:
            path.unlink() if data is None else put(path, data)
            with no_hang():
                verdict = self._verdict(change)
                self.counts[verdict] += 1
                if thorough:
                    self._resume()
        except AssertionError as error:
            raise AssertionError(f"{self.sample.name}: {name}: {what}: {error}") from error
        finally:
            if thorough:
                self.sample.write(self.store)
            else:
                put(path, self.sample.files[name])
        if thorough and verdict.startswith("reported"):
            self._repair(change)

    def _verdict(self, change: Change) -> str:
        try:
            found: Found | None = recover(self.store, self.names)
        except CkptError as error:
            found, problem = None, error
        reported, noted = self._reported()
        if found is None:
            assert reported, f"a resume is refused ({problem}), and verify finds nothing"
            return f"reported, refused: {type(problem).__name__}"
        if self._shorter_log(change):
            assert self._is_prefix(found), f"a wrong value: {str(found)[:300]}"
            return "a shorter log: " + ("reported" if reported else "noted" if noted else "not noticed")
        assert found in self.allowed, f"a wrong value: {str(found)[:300]}"
        if reported:
            return "reported, right all the same"
        assert found == self.allowed[0], "verify finds nothing, and an older checkpoint is used"
        if change[1].endswith(".log") and change[2] is not None and change[2].startswith(self.sample.files[change[1]]):
            assert noted, "verify does not list what stands behind the last record of an older segment"
            return "an unfinished record behind an older segment: listed"
        assert self._harmless(change), "verify finds nothing"
        return f"harmless: {_kind(change[1])}"

    def _reported(self) -> tuple[bool, bool]:
        try:
            findings = Store(self.store).verify()
        except CkptError:
            return True, False
        return any(finding.serious for finding in findings), bool(findings)

    def _shorter_log(self, change: Change) -> bool:
        """The newest segment cut or gone, or with an unfinished record behind it."""
        _, name, data = change
        whole = self.sample.files[name]
        return name == self.last and (data is None or whole.startswith(data) or data.startswith(whole))

    def _is_prefix(self, found: Found) -> bool:
        """What an earlier moment of the run would have gone on with: operations missing from the end only."""
        if found in self.earlier:
            return True
        return any(one[:-1] == found[:-1] and one[-1][: len(found[-1])] == found[-1] for one in self.earlier)

    def _harmless(self, change: Change) -> bool:
        """Whether the change is none to what is used: unread files, blanks and letters that mean the same, unused bytes."""
        _, name, data = change
        if Path(name).name in UNREAD or name.endswith(".pack"):
            return True  # of a pack: bytes that no kept checkpoint uses, for what was read is right to the last byte
        if name == "key" and data is not None:
            return Key.parse(data.decode("ascii")) == Key.parse(self.sample.files[name].decode("ascii"))
        return name == "FORMAT" and data is not None and json.loads(data) == json.loads(self.sample.files[name])

    def _resume(self) -> None:
        """The job itself goes on in this process: the right result, or a typed error before anything strange is unpickled."""
        with _guarded(self.pickles) as strange:
            try:
                job, argument = _job(self.sample)
                result = exact(job.options(store=str(self.store), every="1it")(argument))
            except CkptError:
                self.counts["resumed: typed error"] += 1
            else:
                assert result == self.sample.result, f"a wrong result: {result}"
                self.counts["resumed: right"] += 1
        assert not strange, f"unpickled, but never written: {strange[0]!r}"

    def _repair(self, change: Change) -> None:
        """After a repair (where the store itself can be opened) nothing is wrong any more, and the job ends right."""
        what, name, data = change
        path = self.store / name
        path.unlink() if data is None else put(path, data)
        try:
            with no_hang():
                self._repaired(name, data)
        except AssertionError as error:
            raise AssertionError(f"{self.sample.name}: {name}: {what}: repair: {error}") from error
        finally:
            self.sample.write(self.store)

    def _repaired(self, name: str, data: bytes | None) -> None:
        store, address = Store(self.store), self.names.address
        try:
            if store.repair(address, dry_run=True).needs:
                with contextlib.suppress(LossError):
                    store.repair(address)
                    raise AssertionError("what was acknowledged was given up without a consent")
            done = store.repair(address, accept_loss=True, start_over=True)
        except LossError:
            raise
        except CkptError as error:
            self.counts[f"not repaired: {type(error).__name__}"] += 1
            return
        assert not any(one.serious for one in store.verify()), "something is wrong after the repair"
        if done.done and data is not None:
            kept = [path.read_bytes() for path in (self.store / done.kept_in).rglob("*") if path.is_file()]
            assert data in kept, "the damaged original was not kept"
        job, argument = _job(self.sample)
        assert exact(job.options(store=str(self.store))(argument)) == self.sample.result, "a wrong result"
        self.counts["repaired, and ended right"] += 1


def _kind(name: str) -> str:
    return f"*{Path(name).suffix}" if name.endswith((".pack", ".log")) else Path(name).name


def _job(sample: Sample) -> tuple[Any, int]:
    return (jobs_proofs.tiny if "inline" in sample.name else jobs_proofs.boxed), 4


def _pickles(allowed: list[Found]) -> set[bytes]:
    """Every pickle that a resume may load."""
    found: set[bytes] = set()
    for one in allowed:
        if one[0] == "result":
            found.add(one[1][0])
            continue
        found |= {data[1:] for _, data in one[-1]}
        if one[0] == "checkpoint":
            *states, results = one[2]
            found |= {parts[0] for parts in states} | {data[1:] for data in results[1:]}
    return found


@contextlib.contextmanager
def _guarded(known: set[bytes]) -> Iterator[list[bytes]]:
    """Collects what is unpickled although it is not ``known``. What the job records itself meanwhile is known, too."""
    strange: list[bytes] = []
    load, from_bytes, to_bytes = pickling.load, operations.from_bytes, operations.to_bytes

    def guarded_load(skeleton: Any, *args: Any) -> Any:
        if bytes(skeleton) not in known:
            strange.append(bytes(skeleton))
        return load(skeleton, *args)

    def guarded_from_bytes(data: Any) -> Any:
        if bytes(data) not in known:
            strange.append(bytes(data))
        return from_bytes(data)

    def noted_to_bytes(value: object) -> bytes:
        data = to_bytes(value)
        known.add(data)
        return data

    pickling.load = guarded_load
    operations.from_bytes, operations.to_bytes = guarded_from_bytes, noted_to_bytes
    try:
        yield strange
    finally:
        pickling.load = load
        operations.from_bytes, operations.to_bytes = from_bytes, to_bytes


def run(cycles: int, seed: int, report: Callable[[str], None] = say) -> str:
    """Try ``cycles`` changes, evenly over all samples (0: every one)."""
    rng, total = random.Random(seed), 0
    counts: Counter[str] = Counter()
    host = ForkHost()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        with memory_folder() as folder, quiet():
            every = samples(host, folder / "made")
            jobs = [(one, change) for one in every for change in changes(one, [x for x in every if x is not one])]
            chosen = sorted(rng.sample(range(len(jobs)), cycles)) if 0 < cycles < len(jobs) else range(len(jobs))
            provers: dict[str, Prover] = {one.name: Prover(one, folder / one.name) for one in every}
            for index in chosen:
                one, change = jobs[index]
                total += 1
                provers[one.name].prove(change, thorough=total % RESUME_EACH == 0)
                report(f"{total} of {len(chosen)}")
            for prover in provers.values():
                counts += prover.counts
    finally:
        host.close()
    shown = "\n".join(f"  {count:7}  {verdict}" for verdict, count in sorted(counts.items()))
    return f"{total} of {len(jobs)} changes: never a wrong value (seed {seed})\n{shown}"


if __name__ == "__main__":
    main(run, 0, __doc__.splitlines()[0])
