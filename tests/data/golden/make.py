"""Makes the golden stores of this format version: small runs whose every later version of ckpt has to go on with.

    python tests/data/golden/make.py v1        in the project's folder, with the ckpt whose format v1 is

For each form a folder below tests/data/golden/v1: the store, as a kill (or the end) left it, and ``expected.json`` with the
result that its job has to end with. The jobs are in ``tests/programs/jobs_golden.py``, and must not be changed any more.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from crash.harness import ForkHost, Form, Kill  # noqa: E402

FORMS = {
    "golden_inline": [Kill(tick=3)],
    "golden_arrays": [Kill(tick=3), Kill(tick=1)],
    "golden_steps": [Kill(tick=3)],
    "golden_nested": [Kill(tick=7)],
    "golden_block": [Kill(tick=3)],
    "golden_finished": [Kill()],
    "golden_torn": [Kill(tick=3)],
    "golden_encrypted": [Kill(tick=3)],
    "golden_unsigned": [Kill(tick=3)],
}
"""How each form's process dies, attempt by attempt; ``Kill()`` is none."""


def make(host: ForkHost, name: str, kills: list[Kill], folder: Path) -> None:
    """One golden store: ``folder/store`` and ``folder/expected.json``."""
    shutil.rmtree(folder, ignore_errors=True)
    plain = Form(host, name, folder / "plain").run(CKPT_DISABLE="1")
    assert plain.status == 0, plain.err
    form = Form(host, name, folder)
    for kill in kills:
        attempt = form.run(kill, SETTLE_S="0.3", CKPT_EVERY="1it", CKPT_ENCRYPT="1" if "encrypted" in name else "")
        assert attempt.killed == (kill.tick is not None), attempt.err
    if name == "golden_torn":
        newest = max((folder / "store").rglob("*.log"))
        newest.write_bytes(newest.read_bytes()[:-9])
    for left in ("out.txt", "err.txt"):
        (folder / left).unlink()
    shutil.rmtree(folder / "plain")
    for hidden in (folder / "store").rglob(".gitignore"):
        hidden.unlink()  # it would keep the store out of this repository; nothing reads it
    expected = {"form": name, "finished": not any(kill.tick for kill in kills), "result": plain.result}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def main() -> None:
    os.environ["GOLDEN_MAKER"] = "1"
    host = ForkHost()
    place = Path(tempfile.gettempdir(), "golden")
    try:
        for name, kills in FORMS.items():
            make(host, name, kills, place / name)
        shutil.rmtree(HERE / sys.argv[1], ignore_errors=True)
        shutil.move(place, HERE / sys.argv[1])
    finally:
        host.close()


if __name__ == "__main__":
    main()
