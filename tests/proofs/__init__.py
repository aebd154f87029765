"""Proofs of what storage is promised to survive: each is a command that prints its seed, and a test that runs it briefly.

    python -m tests.proofs.corruption   --cycles N --seed S     changed bits, cut files, missing and swapped ones
    python -m tests.proofs.decoders     --cycles N --seed S     decoders and bytes that nobody wrote
    python -m tests.proofs.crash_states --cycles N --seed S     every state that a power loss may legally leave
    python -m tests.proofs.power_loss   --cycles N --seed S     power losses of a real ext4
    python -m tests.proofs.system_calls --cycles N --seed S     killed, failing and lying system calls

``--cycles 0`` means all there are. The same cycles and seed do the same again. Run them in the project's folder.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
if str(TESTS) not in sys.path:  # as pytest's conftest does: helpers of the tests are imported from there
    sys.path.insert(0, str(TESTS))
