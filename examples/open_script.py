"""A script without functions: estimate pi by throwing darts, with the state spelled out.

    python examples/open_script.py --rounds 5000

``with ckpt.open`` is the form for notebooks, scripts, and programs that would rather say what their state is: exactly
what is in ``run.state``, the position of ``run.loop``, and the random generators.
"""

from __future__ import annotations

import argparse
import math
import random

import ckpt

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=5000)
parser.add_argument("--darts", type=int, default=1000, help="per round")
options = parser.parse_args()

random.seed(4)
with ckpt.open("darts", run_id=f"{options.rounds}x{options.darts}") as run:
    s = run.state(inside=0, thrown=0, closest=math.inf, best_round=None)
    for number in run.loop(range(options.rounds)):
        for _ in range(options.darts):
            s.inside += math.hypot(random.random(), random.random()) <= 1
        s.thrown += options.darts
        error = abs(4 * s.inside / s.thrown - math.pi)
        if error < s.closest:
            s.closest, s.best_round = error, number
    print(f"pi is about {4 * s.inside / s.thrown!r}; closest in round {s.best_round}, off by {s.closest!r}")
