"""The servers of the tests themselves: what the other tests conclude from them holds only if they behave."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from servers.fixtures import Server
from servers.gcs import GcsServer

from ckpt.errors import UnsupportedStorageError
from ckpt.storage import resolve
from ckpt.storage.probe import probe

SERVERS = ("s3_server", "azure_server", "gcs_server")
CHILD = "import sys; from ckpt.storage import resolve; print(resolve(sys.argv[1]).get('job/key').decode())"


@pytest.mark.parametrize("name", SERVERS)
def test_fresh_place_is_empty_and_another_one_each_time(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    first, second = (resolve(server.fresh_store_url(), server.storage_options) for _ in range(2))
    first.put("job/key", [b"x"])
    assert second.list("") == []
    assert first.list("") == ["job/key"]


@pytest.mark.parametrize("name", SERVERS)
def test_child_process_needs_nothing_but_the_environment(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    url = server.fresh_store_url()
    resolve(url, server.storage_options).put("job/key", [b"read by another process"])
    environ = {**os.environ, **server.environ}
    command = [sys.executable, "-c", CHILD, url]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert said.stdout == "read by another process\n", said.stderr


def test_careless_server_is_refused_by_the_probe(careless_gcs_server: GcsServer) -> None:
    storage = resolve(careless_gcs_server.fresh_store_url(), careless_gcs_server.storage_options)
    with pytest.raises(UnsupportedStorageError, match="not safe"):
        probe(storage)
