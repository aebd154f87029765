"""A server as a child process: started, waited for until it says where it listens, and ended."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

START_S = 60.0
"""How long a server may take to say that it listens: node on two busy processors is slow."""


class ServerProcess:
    """A child process with a folder of its own, which is removed with it. ``log`` has all that it said."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._temporary = tempfile.TemporaryDirectory(prefix=f"ckpt-{name}-")
        self.folder = Path(self._temporary.name)
        self.log = self.folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], ready: str, environ: Mapping[str, str] | None = None) -> re.Match[str]:
        """Run ``command`` until its output matches ``ready``. RuntimeError with what it said if it never does."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_dying_with_this_process(), *command],
                cwd=self.folder,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C on the tests' terminal is not for the server
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            ended = self._process.poll()
            said = self.log.read_text(errors="replace")
            if found := re.search(ready, said):
                return found
            if ended is not None:
                raise RuntimeError(f"{self.name} ended with status {ended}:\n{said}")
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not listen after {START_S:g} s:\n{said}")

    def stop(self) -> None:
        """End the process and remove its folder."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._temporary.cleanup()


def _dying_with_this_process() -> list[str]:
    """What to put before a command so that the kernel ends it when the tests are killed; nothing off Linux."""
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "TERM", "--"]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, for servers that cannot choose one themselves."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
