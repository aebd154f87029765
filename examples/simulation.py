"""Heat in a plate, a simulation that survives being killed.

    python examples/simulation.py --steps 20000 --size 200

Kill it at any moment (Ctrl-C, kill -9, a power cut), start it again with the same arguments: it goes on where it was,
and the numbers it prints at the end are the same to the last bit. Noise included: the generator is part of the state.
"""

from __future__ import annotations

import argparse

import numpy as np

import ckpt


@ckpt.job
def simulate(size: int, steps: int, seed: int) -> dict[str, float]:
    """A plate with one hot and one cold edge and noisy sources; returns what a report would show."""
    rng = np.random.default_rng(seed)
    plate = np.zeros((size, size))
    hottest: list[float] = []
    for step in ckpt.loop(range(steps)):
        plate[0], plate[-1] = 100.0, 0.0
        neighbours = plate[:-2, 1:-1] + plate[2:, 1:-1] + plate[1:-1, :-2] + plate[1:-1, 2:]
        plate[1:-1, 1:-1] = neighbours / 4
        row, column = rng.integers(1, size - 1, size=2)
        plate[row, column] += rng.exponential(50.0)
        if step % 100 == 0:
            hottest.append(float(plate.max()))
    return {"mean": float(plate.mean()), "deviation": float(plate.std()), "hottest": max(hottest, default=0.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=200, help="cells along an edge")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = simulate(options.size, options.steps, options.seed)
    print("plate after", options.steps, "steps:", ", ".join(f"{name} {value!r}" for name, value in result.items()))


if __name__ == "__main__":
    main()
