"""Makes small stores of killed runs and damages copies of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from crash.harness import Attempt, ForkHost, Form, Kill

INTEGRITY = {"CorruptionError", "UntrustedError", "UnknownFormatError", "MissingKeyError"}
EVERY = {"CKPT_EVERY": "1it"}


@dataclass(frozen=True, slots=True)
class Wreck:
    """A store as a kill left it, and the result that its run has to end with."""

    host: ForkHost
    name: str
    store: Path
    expected: object

    def files(self) -> list[str]:
        """All files, relative to the store."""
        return sorted(str(path.relative_to(self.store)) for path in self.store.rglob("*") if path.is_file())

    def segments(self) -> list[str]:
        return [name for name in self.files() if name.endswith(".log")]

    def packs(self) -> list[str]:
        return [name for name in self.files() if name.endswith(".pack")]

    def copy(self, folder: Path) -> Form:
        """A form whose store is a copy of this one."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.store, folder / "store")
        return Form(self.host, self.name, folder)

    def verdict(self, attempt: Attempt) -> str:
        """'right', or the name of the typed error; anything else fails the test."""
        if attempt.status == 0:
            assert attempt.result == self.expected, f"a wrong result: {attempt.result}\n{attempt.err}"
            return "right"
        last = [line for line in attempt.err.splitlines() if line.startswith("ckpt.errors.")]
        assert attempt.status == 1, f"status {attempt.status}\n{attempt.err}"
        assert last, f"not a typed error:\n{attempt.err}"
        return last[-1].removeprefix("ckpt.errors.").partition(":")[0]


def make(host: ForkHost, name: str, folder: Path, kill: Kill, **env: str) -> Wreck:
    """Run ``name`` until ``kill``; its store is what a crash left."""
    plain = Form(host, name, folder / "plain").run(CKPT_DISABLE="1")
    assert plain.status == 0, plain.err
    form = Form(host, name, folder / "wreck")
    assert form.run(kill, SETTLE_S="0.1", **EVERY, **env).killed
    return Wreck(host, name, form.folder / "store", plain.result)
