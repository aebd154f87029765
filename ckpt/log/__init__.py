"""The operation log of a run: one write-once row of segments, read, appended to, fenced and trimmed.

A record is true once it is durable in a segment and no later slot existed after that: the commit point of everything
that ckpt does. ``docs/format.md`` has the protocol; ``view`` reads, ``tail`` writes, ``writer`` shares it with threads.
"""

from ckpt.format.segment import Damage, TornTail
from ckpt.log.tail import Place
from ckpt.log.view import LogView, read_log, with_left_out
from ckpt.log.writer import LogWriter

__all__ = ["Damage", "LogView", "LogWriter", "Place", "TornTail", "read_log", "with_left_out"]
