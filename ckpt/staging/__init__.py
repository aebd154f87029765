"""Owns the memory that a job's state is copied into, so that the job can go on while its checkpoint is written.

Guarantees: when ``Stager.stage`` has returned, nothing that it returned shares memory with the job; large buffers are
copied by a primitive that releases the GIL; the memory of a released state is used again, so that every copy but the
first goes into memory that is already mapped (a copy into fresh memory is several times slower); at most twice the
memory that was ever in use at the same time is kept; and of a large buffer that is still where it was, only what was
written since is copied again (``watched``, ``pages``).

Copying with two threads was measured on two cores: 1.2 times faster at best. Not worth a thread here.
"""

from ckpt.staging.memory import REGION_STEP
from ckpt.staging.stager import ALIGNMENT, LARGE_BUFFER, SMALL_STATE, Origin, StagedState, Stager

__all__ = ["ALIGNMENT", "LARGE_BUFFER", "REGION_STEP", "SMALL_STATE", "Origin", "StagedState", "Stager"]
