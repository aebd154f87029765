"""The job that ``ckpt demo`` kills: an estimate of pi from random points, as a user would write it.

Run as a program: ``demo_job.py ROUNDS BATCHES POINTS CALLS``. It prints ``at N`` after each batch, and at its end
``result`` with the job's result as JSON. CALLS is a file that gets a line whenever the step is executed.
"""

from __future__ import annotations

import json
import random
import sys

import ckpt


def call_service(number: int, calls: str) -> int:
    """Stands for something slow and paid that nobody wants to be done twice; its answer is recorded."""
    with open(calls, "a") as file:
        file.write(f"{number}\n")
    return (number + 1) * 7919 % 1000


@ckpt.job(name="pi")
def estimate_pi(rounds: int, batches: int, points: int, calls: str) -> tuple[list[float], float, int]:
    """The estimate after each round, the next random number, and the sum of the service's answers."""
    rng = random.Random(1)
    inside, answers, estimates = 0, 0, []
    for number in ckpt.loop(range(rounds)):
        answers += ckpt.step(call_service)(number, calls)
        for batch in ckpt.loop(range(batches)):
            for _ in range(points):
                inside += rng.random() ** 2 + rng.random() ** 2 <= 1.0
            print("at", number * batches + batch + 1, flush=True)
        estimates.append(4 * inside / ((number + 1) * batches * points))
    return estimates, rng.random(), answers


if __name__ == "__main__":
    # Floats are printed so that reading them gives the same bits again.
    rounds, batches, points = map(int, sys.argv[1:4])
    print("result", json.dumps(estimate_pi(rounds, batches, points, sys.argv[4])), flush=True)
