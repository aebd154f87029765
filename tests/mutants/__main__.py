"""``python -m tests.mutants``: run all mutants, print a line each."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from programs.staging import missing

from mutants.running import make, run_test
from mutants.table import MUTANTS


def main() -> int:
    survivors = 0
    for mutant in MUTANTS:
        if mutant.asks_kernel and missing("pages"):
            sys.stdout.write(f"not tried: {mutant.name}: {missing('pages')}\n")
            continue
        with tempfile.TemporaryDirectory() as folder:
            make(mutant, Path(folder))
            noticed = run_test(mutant, Path(folder)).returncode == 1
        survivors += not noticed
        sys.stdout.write(f"{'noticed' if noticed else 'SURVIVED'}: {mutant.name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(MUTANTS)} mutants, {survivors} survived\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
