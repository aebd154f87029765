"""Every function of Python's own standard library as a row of a CSV file: an ETL that writes while it runs.

    python examples/etl_output.py --files 400 --out functions.csv

The file is a ``ckpt.output``: its length is part of each checkpoint. Kill the program and start it again: the file is cut
back to where the run goes on, and in the end no row is missing and none is there twice.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import os
import sysconfig
from pathlib import Path

import ckpt


def functions(path: Path) -> list[tuple[str, int, int]]:
    """(name, line, number of statements) of the functions in a source file; none if it is no Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [(node.name, node.lineno, sum(isinstance(one, ast.stmt) for one in ast.walk(node)) - 1) for node in found]


def sources(root: Path, limit: int) -> list[Path]:
    """The first ``limit`` source files below ``root``, sorted: the order of a folder is no order."""
    found = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(set(below) - {"site-packages", "__pycache__", "test", "tests"})
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)[:limit]


@ckpt.job
def export(root: Path, limit: int, out: str) -> dict[str, int]:
    """Write the table; how many rows and statements there are."""
    totals = {"files": 0, "rows": 0, "statements": 0}
    with ckpt.output(out, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "function", "line", "statements"])
        for path in ckpt.loop(sources(root, limit)):
            for name, line, statements in functions(path):
                table.writerow([path.relative_to(root), name, line, statements])
                totals["rows"] += 1
                totals["statements"] += statements
            totals["files"] += 1
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400, help="at most so many files")
    parser.add_argument("--out", default="functions.csv", help="a path, or a URL like s3://bucket/functions.csv")
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_path("stdlib")))
    options = parser.parse_args()
    totals = export(options.root, options.files, options.out)
    digest = hashlib.sha256(Path(options.out).read_bytes()).hexdigest()[:16] if "://" not in options.out else "elsewhere"
    print(f"{options.out}: {totals['rows']} rows, {totals['statements']} statements, content {digest}")


if __name__ == "__main__":
    main()
