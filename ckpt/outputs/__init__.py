"""Output files of a run: append-only, and as long as the resume point says, whatever was killed.

Guarantees: the length of an output file is part of every state; before a checkpoint commits, the bytes that its states
name are durable; at the resume point the file is cut back to where the state has it, and what is run again writes the
rest again, so nothing is lost or doubled. Bytes before the cut are verified (length, and a CRC-32 of all that the run
wrote): what is not as the run left it is an ``OutputChangedError``, never a guess.

On disk: a local file at its path, growing, and ``<path>.ckpt`` beside it, the *claim*: which run it belongs to, and how long
it was when that run first opened it. The claim is durable before the first byte is written and goes when the run is
finished. In other storages: see ``parts``.
"""

from ckpt.outputs.claim import Owner
from ckpt.outputs.handle import Output, Settings
from ckpt.outputs.plain import open_plain
from ckpt.outputs.registry import Outputs

__all__ = ["Output", "Outputs", "Owner", "Settings", "open_plain"]
