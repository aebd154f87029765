"""``python -m benchmarks [--quick] [--only NAME]... [--skip NAME]... [--json FILE]``: measure, print the table.

A group that fails is a row of its own that says why, and the others go on; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    faraway,
    flatness,
    goodput,
    importing,
    killing,
    limits,
    logged,
    loops,
    many,
    mapping,
    overhead,
    rivals,
    stalls,
    state,
    steps,
)
from benchmarks.harness import Bench, Row, not_measured
from benchmarks.machine import Load, describe
from benchmarks.table import document, text

GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
    "limits": limits.measure,
    "pauses": state.measure_pauses,
    "memory": state.measure_memory,
    "restore": state.measure_restore,
    "objects": limits.measure_objects,
    "stall": stalls.measure,
    "steps": steps.measure,
    "logged": logged.measure,
    "many": many.measure,
    "goodput": goodput.measure,
    "overhead": overhead.measure,
    "flatness": flatness.measure,
    "kill": killing.measure,
    "loop": loops.measure,
    "import": importing.measure,
    "faraway": faraway.measure,
    "map": mapping.measure,
    "peers": rivals.measure_saving,
    "recording": rivals.measure_recording,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(GROUPS)
    parser.add_argument("--quick", action="store_true", help="small sizes, some minutes: to see that all works")
    parser.add_argument("--only", action="append", choices=list(GROUPS), metavar="NAME", help=names)
    parser.add_argument("--skip", action="append", choices=list(GROUPS), metavar="NAME", default=[], help="not these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    asked = parser.parse_args()
    chosen = [name for name in asked.only or GROUPS if name not in asked.skip]
    found: dict[str, list[Row]] = {}
    failed: list[str] = []
    loads: dict[str, str] = {}
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ckpt-benchmarks-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        machine = describe(folder)
        for name in chosen:
            load = Load.now()
            try:
                found[name] = GROUPS[name](Bench(asked.quick, _subfolder(folder, name)))
            except Exception as error:
                traceback.print_exc()
                failed.append(name)
                found[name] = [not_measured(f"the group {name}", f"{type(error).__name__}: {error}")]
            loads[name] = load.text_since()
            print(f"{name}: {loads[name]}", file=sys.stderr, flush=True)
            if asked.json is not None:  # what is there so far stays if the rest is interrupted
                whole = {**machine, "loads": loads, "seconds": round(time.monotonic() - began_s)}
                asked.json.write_text(json.dumps(document(found, whole, quick=asked.quick), indent=1) + "\n")
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"in all {time.monotonic() - began_s:.0f} s; how busy the machine was:")
    for name, said in loads.items():
        print(f"  {name}: {said}")
    print("\n" + text(found))
    sys.exit(1 if failed else 0)


def _subfolder(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


if __name__ == "__main__":
    main()
