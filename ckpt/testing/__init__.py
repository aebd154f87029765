"""For tests of ckpt, and of programs and storages that go with it; nothing in ckpt itself imports this.

``FakeClock``; ``FaultyStorage`` with a ``FaultPlan`` (fails, lies, kills at a chosen call), also for child processes
through one environment variable (``faults``, ``python -m ckpt.testing SCRIPT``); ``contract``: what any storage must
do, as a pytest suite to subclass (the only part that needs pytest).
"""

from ckpt.testing.clock import FakeClock
from ckpt.testing.faults import (
    FAULTS_VARIABLE,
    Action,
    Fault,
    FaultPlan,
    FaultyStorage,
    install_from_environment,
)

__all__ = ["FAULTS_VARIABLE", "Action", "FakeClock", "Fault", "FaultPlan", "FaultyStorage", "install_from_environment"]
