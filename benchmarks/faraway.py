"""How long after SIGKILL a job does new work again whose store is elsewhere. The servers are the tests' own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, Row, compare, interleave, not_measured
from benchmarks.killing import once

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers import Missing
from servers.azure import AzureServer
from servers.s3 import S3Server
from servers.sftp import SftpServer

KEY = "5e" * 32
MEASURE = "SIGKILL to the first new iteration, store on {}"
SERVERS: dict[str, Callable[[], Any]] = {
    "S3 (moto)": S3Server,
    "Azure (azurite)": AzureServer,
    "SFTP (OpenSSH)": SftpServer,
}


def _once_elsewhere(bench: Bench, server: Any) -> float:
    return once(bench, "ckpt", server.fresh_store_url(), {**server.environ, "CKPT_KEY": KEY})


def measure(bench: Bench) -> list[Row]:
    cases: dict[str, Callable[[], float]] = {"local": partial(once, bench, "ckpt")}
    rows = []
    with ExitStack() as running:
        for name, server in SERVERS.items():
            try:
                cases[name] = partial(_once_elsewhere, bench, running.enter_context(server()))
            except Missing as missing:
                rows.append(not_measured(MEASURE.format(name), str(missing)))
        found = interleave(bench.size(7, 2), cases)
    local = found.pop("local")
    peer = ("the same with a local folder", local)
    return [compare(MEASURE.format(name), times, peer) for name, times in found.items()] + rows
