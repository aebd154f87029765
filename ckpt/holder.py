"""Which process holds a lease, as others read it, and whether that process still lives."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from ckpt import host
from ckpt.protocols import Clock


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a lease: where, which, and since when (``started``: Unix time, seconds)."""

    host: str
    pid: int
    boot_id: str
    process_start: str
    started: float

    @classmethod
    def this_process(cls, clock: Clock) -> Holder:
        pid = os.getpid()
        return cls(host.host_name(), pid, host.boot_id(), host.process_start(pid), clock.now())

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def parse(cls, line: bytes) -> Holder | None:
        """The holder that the JSON text ``line`` describes; None if it describes none."""
        try:
            content = json.loads(line)
            return cls(
                str(content["host"]),
                int(content["pid"]),
                str(content["boot_id"]),
                str(content["process_start"]),
                float(content["started"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def alive(self) -> bool | None:
        """Whether this process runs; None if that cannot be told from here: another machine's, or another boot's."""
        if self.host != host.host_name() or self.boot_id != host.boot_id():
            return None
        if self.process_start:  # a pid alone may be somebody else's by now
            return host.process_start(self.pid) == self.process_start
        return host.process_alive(self.pid)


@dataclass(frozen=True, slots=True)
class Refused:
    """Somebody else has the lease: ``holder``, if it could be read. Not ``certain``: it may be dead; look again."""

    holder: Holder | None
    certain: bool = True
