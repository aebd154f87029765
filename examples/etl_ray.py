"""Capitalised words of many files, counted on Ray: ``etl_dask.py`` with fewer than five lines changed.

    python examples/etl_ray.py --files 200                           # two processors of this machine
    python examples/etl_ray.py --cluster ray://host:10001            # yours
"""

from __future__ import annotations

import argparse
import contextlib
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import ray

import ckpt

EXECUTOR: list[str] = []
"""Where items are executed: not an argument of the job, which stays the same run on another cluster."""


def count_words(path: Path) -> Counter[str]:
    """Extract and transform: the words of one file that begin with a capital letter."""
    words = path.read_text(errors="replace").split()
    return Counter(word for word in words if word.isalpha() and word[0].isupper())


@ckpt.job(name="etl")
def etl(root: Path, limit: int) -> Counter[str]:
    """Load: all counts in one table. Each file is a safe point."""
    table: Counter[str] = Counter()
    files = sorted(root.glob("*.py"))[:limit]
    for counted in ckpt.loop(ckpt.map(count_words, files, key=str, executor=EXECUTOR[0])):
        table.update(counted)
    return table


@contextlib.contextmanager
def cluster(given: str | None) -> Iterator[str]:
    """The address of the cluster that was given, or of one with two worker processes."""
    if given is not None:
        yield given
        return
    with ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False):
        yield "ray"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--cluster", help="ray://host:port; default: one of its own")
    options = parser.parse_args()
    with cluster(options.cluster) as address:
        EXECUTOR.append(address)
        table = etl(options.root, options.files)
    print(", ".join(f"{word} {count}" for word, count in sorted(table.items(), key=lambda pair: (-pair[1], pair[0]))[:8]))


if __name__ == "__main__":
    main()
