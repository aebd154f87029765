"""Children of a job whose store is elsewhere: forked and spawned ones have clients of their own, and the job goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, Script, collect
from servers.fixtures import Server

from ckpt.store import Store

KEY = "7c" * 32
SERVERS = ("s3_server", "sftp_server")


def test_children_use_the_store_through_clients_of_their_own_while_the_job_goes_on(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stores: dict[str, tuple[Server, str]] = {}
    processes: dict[str, subprocess.Popen[str]] = {}
    for name in SERVERS:
        server: Server = request.getfixturevalue(name)
        stores[name] = server, server.fresh_store_url()
        folder = tmp_path / name
        folder.mkdir()
        environ = {**server.environ, "CKPT_STORE": stores[name][1], "CKPT_KEY": KEY}
        processes[name] = Script(PROGRAMS / "forker.py", folder).start(**environ)
    for name, process in processes.items():
        attempt = collect(process)
        assert attempt.status == 0, f"{name}: {attempt.err}"
        beside = {1: range(100, 108), 3: range(300, 308)}
        assert attempt.result == [n * 7919 for item in range(5) for n in (*beside.get(item, ()), item)], name
        for way in ("fork", "spawn"):
            said = json.loads((tmp_path / name / f"{way}.json").read_text())
            assert said == [True, True, 3 * 7919], (name, way)
        server, url = stores[name]
        store = Store(url, key=KEY, storage_options=server.storage_options)
        runs = {run.address.rpartition(".")[2]: run.status for run in store.list()}
        assert runs == {"parent/parent": "finished", "small/fork": "finished", "small/spawn": "finished"}, name
        assert [finding for finding in store.verify() if finding.serious] == [], name
