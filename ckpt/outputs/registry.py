"""All output files of one run: opened, saved with the states, cut back at the resume point, completed at the end.

While the run replays (the way to the resume point is run again), nothing is written: what the code writes is kept in a
spool, which is dropped when a state comes back, because its bytes are in the file already. At the resume point each file is
cut to where the last state has it, and the spool, written by what was run again since, follows.
"""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ckpt import events, host
from ckpt.errors import CkptError, OptionError
from ckpt.outputs.claim import SUFFIX, Owner
from ckpt.outputs.handle import Output, Settings
from ckpt.outputs.local import LocalSink
from ckpt.outputs.parts import PartsSink, is_claimed

BUFFER_BYTES = 256 << 10
"""Bytes that are gathered before they are handed to the system."""

SPOOL_BYTES = 8 << 20
"""What is written on the way back stays in memory up to this length, and is in a temporary file beyond it."""

_URL = re.compile(r"([A-Za-z0-9+.-]+)://(.*)", re.DOTALL)


class Sink(Protocol):
    """Where the bytes of one output go."""

    where: str
    start: int
    """Length when the run first opened it, bytes."""

    def begin(self, saved: Mapping[str, Any] | None) -> None:
        """The claim is there on return. ``saved``: what the newest state says of the output; None if no state names it.
        OutputBusyError, OutputChangedError (the claim was deleted, and what is the run's cannot be known), StorageError."""

    def cut(self, length: int, crc: int, more: Any) -> None:
        """Go on behind the first ``length`` bytes, which have to be there. ``crc`` is that of the run's own bytes,
        ``more`` what ``saved`` gave then. OutputChangedError, StorageError."""

    def append(self, data: bytes) -> None: ...

    def saved(self) -> Any:
        """What ``cut`` needs besides the length; plain values."""

    def make_durable(self) -> None:
        """All that was appended before is durable on return. Called by any thread."""

    def complete(self) -> None:
        """The file is whole, in its place and durable on return."""

    def release(self) -> None:
        """The run is finished, and its result recorded: let go of the file."""

    def close(self) -> None:
        """The attempt ends."""


def shown(name: str) -> str:
    """The path or URL without a password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1@", name)


def local_place(name: str) -> str | None:
    """The absolute path of a local output; None for a URL of another storage."""
    match = _URL.fullmatch(name)
    if match is None:
        return os.path.realpath(name)
    return os.path.realpath(match[2]) if match[1] == "file" else None


class _Entry:
    """One output file of the run (see ``handle.Target``)."""

    def __init__(self, outputs: Outputs | None, name: str, settings: Settings, sink: Sink | None) -> None:
        self._outputs, self.name, self.settings, self.sink = outputs, name, settings, sink
        self.encoder = settings.encoder()
        self.opens = 0
        self.length = sink.start if sink is not None else 0
        self.crc = 0
        self._base: tuple[int, int, Any] = (self.length, 0, None)
        self._saved: dict[str, Any] | None = None
        self._buffer = bytearray()
        self._spool: Any = None
        self.handle = Output(self)
        if self.encoder is not None and self.length:
            self.encoder.setstate(0)  # no byte order mark in the middle of a file

    def write(self, data: bytes) -> None:
        assert self._outputs is not None
        self._outputs.check_writable(self.name)
        self.length += len(data)
        self._buffer += data
        if len(self._buffer) >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        self.crc = zlib.crc32(data, self.crc)
        if self._spool is not None:
            self._spool.write(data)
        elif self.sink is not None and data:
            self.sink.append(data)

    def closed(self) -> None:
        if self.opens == 0:
            self.flush()

    def save(self) -> dict[str, Any]:
        self.flush()
        return {
            "name": self.name,
            "settings": self.settings.values(),
            "start": self.sink.start if self.sink is not None else 0,
            "length": self.length,
            "crc": self.crc,
            "encoder": self.encoder.getstate() if self.encoder is not None else 0,
            "opens": self.opens,
            "sink": self.sink.saved() if self.sink is not None else None,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.length, self.crc, self.opens = saved["length"], saved["crc"], saved["opens"]
        self._base, self._saved = (self.length, self.crc, saved["sink"]), saved
        if self.encoder is not None:
            self.encoder.setstate(saved["encoder"])
        self.begin_replay()

    def begin_replay(self) -> None:
        """From here on what is written is only kept, until the next state comes back or the resume point is reached."""
        self._buffer.clear()
        if self._spool is not None:
            self._spool.close()
        self._spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - closed at the resume point

    def go_live(self) -> None:
        """The resume point is reached: cut the file to the last state, and write what was run again since."""
        assert self.sink is not None
        self.flush()
        self.sink.begin(self._saved)
        self.sink.cut(*self._base)
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.seek(0)
            while data := spool.read(SPOOL_BYTES):
                self.sink.append(data)
            spool.close()


class Outputs:
    """The output files of one attempt. Used by the job's thread, but for ``make_durable``."""

    def __init__(
        self, owner: Owner, *, over: bool, new_tag: Callable[[], str], check_current: Callable[[], None],
        may_write: Callable[[], bool],
    ) -> None:  # fmt: skip
        """``over``: the run is finished, and only gets its last state back: nothing is written any more. ``new_tag`` and
        ``check_current``: see ``parts``; ``may_write()``: whether the job itself is executing: its thread and task, its process, and no step."""
        self._owner, self._over, self._new_tag, self._check_current = owner, over, new_tag, check_current
        self._may_write = may_write
        self._entries: dict[str, _Entry] = {}
        self._live = False

    def open(self, path: str | os.PathLike[str], settings: Settings) -> Output:
        """The output at ``path``: the one object of it that the run has. OptionError, OutputBusyError,
        OutputChangedError, StorageError."""
        name = os.fspath(path)
        self.check_writable(name)
        known = self._entries.get(local_place(name) or name)
        if known is not None and settings.truncates and self._live and known.length > 0:
            raise OptionError(
                "the output file would be emptied, although the run has written to it",
                where=shown(name),
                fix='open it once, before the loop; or open it again with mode "a"',
            )
        entry = self._entry(name, settings)
        if entry.settings != settings and not (entry.settings.binary and settings.binary):
            entry_mode, mode = entry.settings.mode[0], settings.mode[0]
            same = [getattr(entry.settings, one) == getattr(settings, one) for one in ("encoding", "errors", "newline")]
            if entry.settings.binary != settings.binary or not all(same):
                what = f"the output file is open with other settings (mode {entry_mode!r}, now {mode!r})"
                raise OptionError(what, where=shown(name), fix="open it in the same way everywhere")
        entry.opens += 1
        return entry.handle

    def find(self, name: str, settings: Settings) -> Output:
        """The output that a state names: the object that the code has opened again, or a new one."""
        return self._entry(name, settings).handle

    def _entry(self, name: str, settings: Settings) -> _Entry:
        place = local_place(name) or name
        entry = self._entries.get(place)
        if entry is None:
            self._check_no_link(name, place)
            sink = None if self._over else self._sink(name, settings)
            entry = self._entries[place] = _Entry(self, name, settings, sink)
            if not self._over and self._live:
                entry.go_live()
            elif not self._over:
                entry.begin_replay()
        return entry

    def _check_no_link(self, name: str, place: str) -> None:
        """OptionError if ``name`` is another path of a file that is an output already: each would write over the other."""
        if not os.path.isfile(place):
            return
        for there, entry in self._entries.items():
            if os.path.isfile(there) and os.path.samefile(there, place):
                what = f"the output file is {entry.name!r} under another name (a hard link)"
                raise OptionError(what, where=shown(name), fix="open it by one path everywhere")

    def _sink(self, name: str, settings: Settings) -> Sink:
        place = local_place(name)
        if place is not None:
            return LocalSink(place, self._owner, truncates=settings.truncates)
        return PartsSink(
            name, self._owner, truncates=settings.truncates, join=settings.join, new_tag=self._new_tag,
            check_current=self._check_current,
        )  # fmt: skip

    def check_writable(self, name: str) -> None:
        """OptionError where what is written could not be made exact: in steps, other threads, child processes."""
        if self._may_write():
            return
        raise OptionError(
            "an output file is used in a step, or in another thread, task or process than the job's, where a resume could not tell "
            "what was written",
            where=shown(name),
            fix="return what is to be written, and write it in the job itself",
        )

    # -- with the states ------------------------------------------------------------------------------------

    def saved(self) -> dict[str, Any]:
        """What a state has to hold of the outputs; empty if there are none."""
        if not self._entries:
            return {}
        return {"outputs": [entry.save() for entry in self._entries.values()]}

    def restore(self, saved: list[dict[str, Any]] | None) -> None:
        """A state comes back. OptionError if the code opens the file in another way now: it would be of two halves."""
        for one in saved or ():
            then = Settings(*one["settings"])
            entry = self._entry(one["name"], then)
            if entry.settings.form != then.form and not self._over:
                what = f"the output file was begun with {then.form}, and is opened with {entry.settings.form} now"
                fix = "open it as it was begun, or start the run afresh: f.options(fresh=True)(...) (of a with block: ckpt rm)"
                raise OptionError(what, where=shown(entry.name), fix=fix)
            entry.restore(one)

    def arrived(self) -> None:
        """The resume point is reached. OutputChangedError, StorageError."""
        self._live = True
        if not self._over:
            for entry in self._entries.values():
                entry.go_live()

    def listed(self) -> dict[str, Any]:
        """For the head of the record that the run is finished: what ``tidy`` needs. Empty if there are no outputs."""
        # An address with a password in it stays out of the log.
        every = [[one.name, *one.settings.values()] for one in self._entries.values() if shown(one.name) == one.name]
        return {"outputs": every} if every else {}

    def tidy(self, listed: list[list[Any]]) -> None:
        """Let go of the outputs of a run that is over, if it died just before it did so."""
        for name, *settings in listed:
            self._entry(name, Settings(*settings))
        self.release()

    # -- making durable, and the end --------------------------------------------------------------------------

    def make_durable(self) -> None:
        """All bytes that a state of this moment or before names are durable on return. Called by the checkpointer."""
        for entry in [*self._entries.values()]:
            if entry.sink is not None:
                entry.sink.make_durable()

    def complete(self) -> None:
        """The job returned: all files are whole and durable on return. FencedError, OutputChangedError, StorageError."""
        for entry in self._entries.values():
            entry.flush()
            if entry.sink is not None:
                if isinstance(entry.sink, PartsSink):
                    entry.sink.set_crc(entry.crc)
                entry.sink.complete()

    def release(self) -> None:
        """The result is recorded. What cannot be tidied up is said; it costs nothing but space."""
        for entry in self._entries.values():
            try:
                sink = self._left_behind(entry) if self._over else entry.sink
                if sink is not None:
                    sink.release()
            except CkptError as error:
                events.say(f"what lies beside the output file could not be removed: {error}")

    def _left_behind(self, entry: _Entry) -> Sink | None:
        """Of a run that is over: the output again, if an attempt died just before it could let go of it."""
        place = local_place(entry.name)
        if place is not None:
            return self._sink(entry.name, entry.settings) if os.path.exists(place + SUFFIX) else None
        return self._sink(entry.name, entry.settings) if is_claimed(entry.name) else None

    def close(self) -> None:
        """The attempt ends: what was written is handed to the system, so that it can be looked at."""
        for entry in self._entries.values():
            if entry.sink is not None:
                try:
                    if self._live:
                        entry.flush()
                except CkptError as error:
                    events.emit("output", error=str(error))  # the attempt has ended already, with its own reason
                entry.sink.close()


def closed_output(name: str, settings: Settings) -> Output:
    """An output that nothing can be written to."""
    return _Entry(None, name, settings, None).handle


def tag_of(epoch: int) -> str:
    """A text that no other attempt, and no other call, has given."""
    return f"{epoch}-{host.entropy(6).hex()}"
