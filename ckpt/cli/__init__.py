"""The command line: parse, call, print. ``ckpt`` and ``python -m ckpt`` start here.

Exit statuses: 0 done; 1 a problem was found, or the command failed; 2 usage (an unknown run counts); 3 the run is busy;
4 what is stored must not be used; 75 preempted: run again. ``ckpt run`` and ``ckpt resume`` pass on the job's status.
Nothing that is stored is ever unpickled here.
"""

from ckpt.cli.main import cli, main

__all__ = ["cli", "main"]
