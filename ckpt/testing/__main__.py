"""``python -m ckpt.testing SCRIPT [ARGUMENT...]``: run a script as python would, with CKPT_TEST_FAULTS in force."""

from __future__ import annotations

import os
import runpy
import sys

from ckpt.testing.faults import install_from_environment


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: python -m ckpt.testing SCRIPT [ARGUMENT...]")
    install_from_environment()
    del sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


main()
