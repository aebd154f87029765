"""Records what a process does to the files below a folder, and tells every state that a power loss may leave of it.

The model is POSIX, so weaker than any file system: only fsync and fdatasync of a file make its content and length durable,
only fsync of a folder the names in it. Of content written since, each write may be there, missing, zero or torn, in any
order; of names changed since (create, link, rename, unlink, mkdir, rmdir), each change may have happened or not.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECTOR = 512
MOST_SUBSETS = 6
"""Of so many pending changes of names every subset is tried; of more, a choice."""

Tree = dict[str, bytes | None]
"""A state: files with their content, folders with None; by path relative to the root."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was done. ``kind``: write, truncate, sync (a file); name (a change of names); sync_folder; ack.

    ``inode`` is the file or folder; a change of names sets ``made`` (a path) to it and drops ``dropped``. ``folder``
    is where those names are.
    """

    kind: str
    inode: int = 0
    offset: int = 0
    data: bytes = b""
    made: str | None = None
    dropped: str | None = None
    folder: str = ""
    note: Any = None


@dataclass(frozen=True, slots=True)
class Content:
    """What a file may hold. ``holed``: of what was written since the last sync something is there behind something missing."""

    data: bytes
    holed: bool


@dataclass(frozen=True, slots=True)
class State:
    """A state of the whole folder; ``holed`` if a file is."""

    tree: Tree
    holed: bool


class Recorder:
    """What happens below ``root`` while ``recording``. Single-threaded use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self.folders: set[int] = set()
        self._fds: dict[int, tuple[int, str]] = {}
        self._names: dict[str, int] = {"": 0}
        self._numbers = itertools.count(1)
        self.folders.add(0)
        self.fail_next: Callable[[str], None] = lambda call: None
        """Called with the name of each system call before it happens; may raise."""

    def ack(self, note: Any) -> None:
        """Somebody was told that ``note`` is durable."""
        self.events.append(Event("ack", note=note))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        names = ("open", "close", "pwritev", "pwrite", "ftruncate", "fsync", "fdatasync", "link", "replace", "unlink",
                 "mkdir", "rmdir")  # fmt: skip
        original = {name: getattr(os, name) for name in names}
        for name in names:
            setattr(os, name, self._wrapped(name, original[name]))
        try:
            yield
        finally:
            for name, function in original.items():
                setattr(os, name, function)

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        note = getattr(self, f"_did_{name}")

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name not in ("open", "close"):
                self.fail_next(name)
            existed = name == "open" and os.path.lexists(args[0])
            result = call(*args, **kwargs)
            note(result, existed, *args)
            return result

        return wrapped

    def _relative(self, path: Any) -> str | None:
        text = os.path.abspath(os.fspath(path))
        if text == str(self.root):
            return ""
        return text.removeprefix(f"{self.root}/") if text.startswith(f"{self.root}/") else None

    def _name(self, inode: int, made: str | None, dropped: str | None) -> None:
        if dropped is not None:
            self._names.pop(dropped, None)
        if made is not None:
            self._names[made] = inode
        self.events.append(Event("name", inode, made=made, dropped=dropped, folder=_folder(made or dropped or "")))

    def _did_open(self, fd: int, existed: bool, path: Any, flags: int, *_: Any) -> None:
        relative = self._relative(path)
        if relative is None:
            return
        if not existed and flags & os.O_CREAT:
            self._name(next(self._numbers), relative, None)
        self._fds[fd] = self._names[relative], relative

    def _did_close(self, _: Any, __: bool, fd: int) -> None:
        self._fds.pop(fd, None)

    def _did_pwritev(self, written: int, _: bool, fd: int, views: Sequence[Any], offset: int) -> None:
        if fd in self._fds:
            data = b"".join(bytes(view) for view in views)[:written]
            self.events.append(Event("write", self._fds[fd][0], offset, data))

    def _did_pwrite(self, written: int, _: bool, fd: int, data: bytes, offset: int) -> None:
        self._did_pwritev(written, _, fd, [data], offset)

    def _did_ftruncate(self, _: Any, __: bool, fd: int, length: int) -> None:
        if fd in self._fds:
            self.events.append(Event("truncate", self._fds[fd][0], length))

    def _did_fsync(self, _: Any, __: bool, fd: int) -> None:
        if fd in self._fds:
            inode, path = self._fds[fd]
            self.events.append(Event("sync_folder", folder=path) if inode in self.folders else Event("sync", inode))

    _did_fdatasync = _did_fsync

    def _did_link(self, _: Any, __: bool, source: Any, target: Any) -> None:
        old, new = self._relative(source), self._relative(target)
        if old is not None and new is not None:
            self._name(self._names[old], new, None)

    def _did_replace(self, _: Any, __: bool, source: Any, target: Any) -> None:
        old, new = self._relative(source), self._relative(target)
        if old is not None and new is not None:
            assert _folder(old) == _folder(new), "a rename between folders is not modelled"
            self._name(self._names[old], new, old)

    def _did_unlink(self, _: Any, __: bool, path: Any) -> None:
        relative = self._relative(path)
        if relative is not None:
            self._name(self._names[relative], None, relative)

    _did_rmdir = _did_unlink

    def _did_mkdir(self, _: Any, __: bool, path: Any, *___: Any) -> None:
        relative = self._relative(path)
        if relative:
            inode = next(self._numbers)
            self.folders.add(inode)
            self._name(inode, relative, None)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def states(recorder: Recorder, count: int, rng: random.Random) -> Iterator[State]:
    """States that a power loss right after the first ``count`` events may leave, the plainest first; some more than once."""
    events = recorder.events[:count]
    synced = {event.folder: at for at, event in enumerate(events) if event.kind == "sync_folder"}
    names = [(at, event) for at, event in enumerate(events) if event.kind == "name"]
    pending = [at for at, event in names if at > synced.get(event.folder, -1)]
    contents = {inode: _contents(events, inode) for inode in {event.inode for event in events} - recorder.folders}
    whole = {inode: variants[0] for inode, variants in contents.items()}
    none = {inode: variants[-1] for inode, variants in contents.items()}

    def tree(done: frozenset[int], data: dict[int, Content]) -> State:
        changes = [event for at, event in names if at in done or at not in pending]
        bytes_of = {inode: content.data for inode, content in data.items()}
        return State(_tree(recorder, changes, bytes_of), any(content.holed for content in data.values()))

    everything, nothing = frozenset(pending), frozenset[int]()
    for done in _subsets(pending, rng):
        yield tree(done, whole)
        yield tree(done, none)
    for inode, variants in contents.items():
        for variant in variants[1:]:
            yield tree(everything, {**whole, inode: variant})
            yield tree(nothing, {**whole, inode: variant})
    for _ in range(4):
        mixed = {inode: rng.choice(variants) for inode, variants in contents.items()}
        yield tree(frozenset(at for at in pending if rng.random() < 0.5), mixed)


def _subsets(pending: list[int], rng: random.Random) -> Iterator[frozenset[int]]:
    if len(pending) <= MOST_SUBSETS:
        for size in range(len(pending), -1, -1):
            yield from map(frozenset, itertools.combinations(pending, size))
        return
    for end in range(len(pending), -1, -1):
        yield frozenset(pending[:end])
    for at in pending:
        yield frozenset(pending) - {at}
        yield frozenset({at})
    for _ in range(8):
        yield frozenset(at for at in pending if rng.random() < 0.5)


def _contents(events: list[Event], inode: int) -> list[Content]:
    """What a file may hold: all that was written first, only what is durable last."""
    mine = [event for event in events if event.inode == inode and event.kind in ("write", "truncate", "sync")]
    last = max((at for at, event in enumerate(mine) if event.kind == "sync"), default=-1)
    durable = _apply(b"", mine[: max(last, 0)])
    pending = mine[last + 1 :]
    found = [Content(_apply(durable, pending), False)]
    for at, event in enumerate(pending):
        before, behind = pending[:at], pending[at + 1 :]
        found += [Content(_apply(durable, before), False), Content(_apply(durable, before + behind), bool(behind))]
        if event.kind == "write":
            found += [
                Content(_apply(durable, [*before, torn, *behind]), holed or bool(behind)) for torn, holed in _torn(event)
            ]
    return [*dict.fromkeys(found), Content(durable, False)] if pending else [Content(durable, False)]


def _torn(event: Event) -> Iterator[tuple[Event, bool]]:
    """A write that got there in part (and whether that leaves a hole): cut at a byte, zeros for sectors that did not, later
    sectors without earlier ones."""
    size = len(event.data)
    boundary = -event.offset % SECTOR
    for cut in sorted({1, 23, 24, 60, size // 2, size - 33, size - 1, boundary, boundary + SECTOR}):
        if 0 < cut < size:
            yield Event("write", event.inode, event.offset, event.data[:cut]), False
            if (event.offset + cut) % SECTOR == 0:
                yield Event("write", event.inode, event.offset, event.data[:cut] + bytes(size - cut)), False
    yield Event("write", event.inode, event.offset, bytes(size)), False
    if 0 < boundary < size:
        yield Event("write", event.inode, event.offset, bytes(boundary) + event.data[boundary:]), True


def _apply(data: bytes, events: list[Event]) -> bytes:
    content = bytearray(data)
    for event in events:
        if event.kind == "write":
            content.extend(bytes(max(0, event.offset - len(content))))
            content[event.offset : event.offset + len(event.data)] = event.data
        elif event.kind == "truncate":
            del content[event.offset :]
            content.extend(bytes(event.offset - len(content)))
    return bytes(content)


def _tree(recorder: Recorder, changes: list[Event], data: dict[int, bytes]) -> Tree:
    names: dict[str, int] = {}
    for event in changes:
        if event.dropped is not None and names.get(event.dropped) == event.inode:
            del names[event.dropped]
        if event.made is not None:
            names[event.made] = event.inode
    found: Tree = {}
    for path, inode in sorted(names.items()):
        above = _folder(path)
        if above and above not in found:
            continue  # its folder's name was not durable: nobody can get there
        found[path] = None if inode in recorder.folders else data.get(inode, b"")
    return found


def build(tree: Tree, root: Path) -> None:
    """Make ``root`` that state."""
    root.mkdir(parents=True)
    for path, content in tree.items():
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)
            if path == "key":
                (root / path).chmod(0o600)
