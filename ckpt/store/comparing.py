"""What differs between two checkpoints, from what they record: names, sizes, and the digests of chunks. Unpickles nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ckpt.format.names import RunNames
from ckpt.format.records import Record
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef
from ckpt.snapshot.layout import Manifest, cut
from ckpt.snapshot.reader import read_manifest
from ckpt.snapshot.reference import Inline
from ckpt.store.branching import checkpoint_of
from ckpt.store.info import Diff, DiffEntry

Which = tuple[RunNames, "int | None"]


def diff_checkpoints(root: StoreRoot, a: Which, b: Which) -> Diff:
    """Compare two checkpoints of one store. OptionError, CorruptionError, UntrustedError, StorageError."""
    records = [checkpoint_of(root, names, number).record for names, number in (a, b)]
    refs = [[SnapshotRef.decode(section) for section in record.sections] for record in records]
    chunks = [_chunks(root, names, of) for (names, _), of in zip((a, b), refs, strict=True)]
    shared = chunks[0] & chunks[1]
    contents = [_contents(root, names, record, of) for (names, _), record, of in zip((a, b), records, refs, strict=True)]
    sizes = [dict(record.head.get("captured", {})) for record in records]
    entries = []
    for name in sorted({*sizes[0], *sizes[1]}):
        change = _change(name, sizes, contents)
        # With all chunks in common nothing differs, whether or not it is known where it is.
        if change != "same" and (change != "unknown" or chunks[0] != chunks[1]):
            entries.append(DiffEntry(name, change, *(_known(size.get(name)) for size in sizes)))
    texts = [f"{names.address}@{record.head['number']}" for (names, _), record in zip((a, b), records, strict=True)]
    return Diff(
        a=texts[0],
        b=texts[1],
        position_a=str(records[0].head.get("where", "")),
        position_b=str(records[1].head.get("where", "")),
        entries=tuple(entries),
        shared_nbytes=_sum(shared),
        only_a_nbytes=_sum(chunks[0]) - _sum(shared),
        only_b_nbytes=_sum(chunks[1]) - _sum(shared),
    )


def _change(name: str, sizes: list[dict[str, int]], contents: list[dict[str, tuple[bytes, ...]]]) -> str:
    if name not in sizes[0]:
        return "added"
    if name not in sizes[1]:
        return "removed"
    if sizes[0][name] != sizes[1][name]:
        return "resized"
    if name in contents[0] and name in contents[1]:
        return "same" if contents[0][name] == contents[1][name] else "changed"
    return "unknown"


def _known(size: int | None) -> int | None:
    """A size in bytes; None where a record says that it is none of a buffer (-1)."""
    return None if size is None or size < 0 else size


def _contents(root: StoreRoot, names: RunNames, record: Record, refs: list[SnapshotRef]) -> dict[str, tuple[bytes, ...]]:
    """The chunks' digests of each variable that the record says is a part of its own (see docs/format.md)."""
    parts, state = record.head.get("parts", {}), record.head.get("parts_of")
    if not parts or not isinstance(state, int) or not 0 <= state < len(refs) or isinstance(refs[state].body, Inline):
        return {}
    manifest = read_manifest(refs[state], root.storage, names, root.key)
    found: dict[int, list[bytes]] = {}
    for (index, _, _), chunk in zip(cut(manifest.lengths), manifest.chunks, strict=True):
        found.setdefault(index, []).append(chunk.digest)
    return {name: tuple(found[part]) for name, part in parts.items() if part in found}


def _chunks(root: StoreRoot, names: RunNames, refs: list[SnapshotRef]) -> Counter[tuple[bytes, int]]:
    """The different chunks of all snapshots, with their sizes in bytes; an inline snapshot counts as one chunk."""
    found: set[tuple[bytes, int]] = set()
    for ref in refs:
        if isinstance(ref.body, Inline):
            found.add((ref.body.digest, ref.nbytes))
        else:
            found |= set(_sized(read_manifest(ref, root.storage, names, root.key)))
    return Counter(found)


def _sized(manifest: Manifest) -> Iterator[tuple[bytes, int]]:
    for (_, start, stop), chunk in zip(cut(manifest.lengths), manifest.chunks, strict=True):
        yield chunk.digest, stop - start


def _sum(chunks: Counter[tuple[bytes, int]]) -> int:
    return sum(size for _, size in chunks)
