"""The front door: ``@job``, ``loop``, ``step``, ``open``. Light to import: the machinery is loaded by the first run."""

from ckpt.jobs.job import Job, job
from ckpt.jobs.marks import current_run, loop, operation_key, step
from ckpt.jobs.opening import open_run

__all__ = ["Job", "current_run", "job", "loop", "open_run", "operation_key", "step"]
