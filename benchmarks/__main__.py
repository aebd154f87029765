"""``python -m benchmarks [--quick] [--only NAME]... [--json FILE]``: measure, print the table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import faraway, flatness, importing, killing, loops, mapping, overhead, stalls, steps
from benchmarks.harness import Bench, Row
from benchmarks.machine import describe
from benchmarks.table import document, text

GROUPS = {
    "import": importing.measure,
    "loop": loops.measure,
    "stall": stalls.measure,
    "overhead": overhead.measure,
    "steps": steps.measure,
    "flatness": flatness.measure,
    "kill": killing.measure,
    "faraway": faraway.measure,
    "map": mapping.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute: to see that all works")
    parser.add_argument("--only", action="append", choices=list(GROUPS), metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    asked = parser.parse_args()
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="ckpt-benchmarks-") as temporary:
        folder = Path(temporary)
        machine = describe(folder)
        for name in asked.only or GROUPS:
            began = time.perf_counter()
            found[name] = GROUPS[name](Bench(asked.quick, _subfolder(folder, name)))
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), end="\n\n")
    print(text(found))
    if asked.json is not None:
        asked.json.write_text(json.dumps(document(found, machine, quick=asked.quick), indent=1) + "\n")


def _subfolder(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


if __name__ == "__main__":
    main()
