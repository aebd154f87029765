"""The first checkpoint of a process imports nothing beside the job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading
import numpy as np
import ckpt
from ckpt.session import current

class Watch:
    seen = []

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            cls.seen.append(f"{name} ({threading.current_thread().name})")

sys.meta_path.insert(0, Watch)

@ckpt.job(key="a", every="1000s")
def job():
    field = np.arange(300_000.0)
    for i in ckpt.loop(range(3)):
        current.run_of_process()._saving.wait_idle()
        field = field + 1
    return 0

job()
print(*Watch.seen, sep=", ")
"""


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_a_checkpoint_imports_is_there_before_the_job_runs(encrypted: bool, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {"CKPT_STORE": str(tmp_path / "store"), "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    environment |= {"CKPT_ENCRYPT": "1"} if encrypted else {}
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "\n", "imported in threads of ckpt, beside the job"
