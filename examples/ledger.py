"""A ledger whose state is its history: each transfer goes to the log, and nothing is executed again after a kill.

Usage: python ledger.py [--transfers N]
"""

from __future__ import annotations

import argparse

import ckpt


class Ledger(ckpt.Logged):
    """Accounts that cannot be overdrawn. An operation is deterministic, and does nothing but change the object."""

    def __init__(self, accounts: int, opening: int) -> None:
        self.balances = [opening] * accounts
        self.refused = 0

    @ckpt.operation
    def transfer(self, source: int, target: int, amount: int) -> bool:
        if self.balances[source] < amount:
            self.refused += 1
            return False
        self.balances[source] -= amount
        self.balances[target] += amount
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transfers", type=int, default=20_000)
    asked = parser.parse_args()
    with ckpt.open("ledger", run_id=str(asked.transfers)) as run:
        ledger = run.logged(Ledger, "ledger", 10, opening=1000)
        largest = run.dict("largest")
        for number in run.loop(range(asked.transfers)):
            # All that an iteration does to the objects is committed together with the position of the loop, or not at all.
            source, target, amount = number * 7 % 10, number * 3 % 10, number * 37 % 800
            if ledger.transfer(source, target, amount) and amount > largest.get(target, 0):
                largest[target] = amount
        print(sum(ledger.balances), ledger.balances, ledger.refused, dict(sorted(largest.items())))


if __name__ == "__main__":
    main()
