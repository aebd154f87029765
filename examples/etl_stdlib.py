"""Which modules does Python's own standard library import most? An ETL over a few hundred real files.

    python examples/etl_stdlib.py --files 400 --top 5

Each file is read and parsed in a ``ckpt.step``: once its result is recorded, it is never parsed again, however often
the program is killed and started again. The loop goes by the file's name (``key=str``), so files that appear or vanish
between two attempts do no harm.
"""

from __future__ import annotations

import argparse
import ast
import os
import sysconfig
from collections import Counter
from pathlib import Path

import ckpt


@ckpt.step
def analyse(path: Path) -> dict[str, list[str]]:
    """Names that a source file imports and calls; what is no Python (test data, say) gives none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return {"imports": [], "calls": []}
    imports, calls = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.append(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            calls.append(node.func.id)
    return {"imports": imports, "calls": calls}


def sources(root: Path, limit: int) -> list[Path]:
    """The first ``limit`` source files below ``root``, sorted: the order of a folder is no order."""
    found = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(set(below) - {"site-packages", "__pycache__", "test", "tests"})
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)[:limit]


@ckpt.job
def survey(root: Path, limit: int) -> dict[str, Counter[str]]:
    """Tables of how often each module is imported and each name is called."""
    tables: dict[str, Counter[str]] = {"imports": Counter(), "calls": Counter()}
    for path in ckpt.loop(sources(root, limit), key=str):
        for kind, names in analyse(path).items():
            tables[kind].update(names)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400, help="at most so many files")
    parser.add_argument("--top", type=int, default=5, help="so many rows of each table")
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_path("stdlib")))
    options = parser.parse_args()
    tables = survey(options.root, options.files)
    rows = (
        f"{kind}: " + ", ".join(f"{n} {c}" for n, c in table.most_common(options.top)) for kind, table in tables.items()
    )
    print("; ".join(rows))


if __name__ == "__main__":
    main()
