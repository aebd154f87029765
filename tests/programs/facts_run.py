"""Plays the run of ``proofs.facts`` on a store: facts_run.py STORE FIRST_FACT ACKS. Appends the number of each fact that is
durable to the file ACKS. Ends with 3 at an error of ckpt, whose type it prints."""

from __future__ import annotations

import sys
from pathlib import Path

from proofs.facts import Playing

from ckpt.errors import CkptError


def run(store: Path, fact: int, acks: Path) -> None:
    with acks.open("ab", buffering=0) as file:
        playing = Playing(store, lambda number: file.write(b"%d\n" % number) and None, fact)
        playing.checkpoint(100)
        for _ in range(2):
            playing.operation()
            playing.checkpoint(17_000)
            playing.rotate()
            playing.checkpoint(17_000)
        playing.end()
        playing.begin()
        playing.operation()
        playing.finish()
        playing.end()


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    except CkptError as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(3)
