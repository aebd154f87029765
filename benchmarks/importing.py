"""Import time: whole processes, because that is what a user waits for."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.harness import Bench, Row, compare, interleave, timed

LIMIT_S = 0.080


def _start(code: str) -> float:
    return timed(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def measure(bench: Bench) -> list[Row]:
    cases = {"bare": "pass", "ckpt": "import ckpt", "numpy": "import numpy"}
    for code in cases.values():
        _start(code)  # byte code is compiled and files are in memory after this
    found = interleave(bench.size(21, 7), {name: partial(_start, code) for name, code in cases.items()})
    ours = [whole - bare for whole, bare in zip(found["ckpt"], found["bare"], strict=True)]
    numpy = [whole - bare for whole, bare in zip(found["numpy"], found["bare"], strict=True)]
    return [
        compare(
            "import ckpt, beyond bare Python",
            ours,
            ("limit of 80 ms", [LIMIT_S] * len(ours)),
            target=1.0,
            note="the one row against a fixed time: on a busy machine it is too high",
        ),
        compare("import ckpt, beyond bare Python", ours, ("import numpy, beyond bare Python", numpy)),
        compare("python -c 'import ckpt'", found["ckpt"], ("python -c pass", found["bare"])),
    ]
