"""What a store costs in requests, counted on the way to a real server: no request per array, and few at once."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from servers.faulty_http import FaultyHttp
from servers.fixtures import Server
from unit.test_storage_answers import through

import ckpt
from ckpt.storage.remote import READERS
from ckpt.storage.uploading import PIECE

KEY = "4d" * 32
WRITES = re.compile(r"^(PUT|POST) ")
A_HANDFUL = 5

proxies: list[FaultyHttp] = []


@pytest.fixture(params=["s3", "azure", "gcs"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(name: str, request: pytest.FixtureRequest) -> Iterator[FaultyHttp]:
    server: Server = request.getfixturevalue(f"{name}_server")
    with FaultyHttp(server.port) as proxy:
        proxies.append(proxy)
        yield proxy
        proxies.clear()


@ckpt.job(key="thousand", every="1000000it", keep=1)
def thousand(size: int) -> list[list[str]]:
    arrays = [np.full(size, number, dtype=np.int64) for number in range(1000)]
    asked: list[list[str]] = []
    for _ in ckpt.loop(range(4)):
        for array in arrays:
            array += 1
        before = len(proxies[0].seen)
        run = ckpt.current_run()
        assert run is not None
        run.checkpoint()
        asked.append(proxies[0].seen[before:])
    return asked[1:]  # beside the first one the job took another by itself


@pytest.mark.parametrize("size", [1, 1000], ids=["8 kB in all", "8 MB in all"])
def test_checkpoint_of_a_thousand_arrays_costs_a_handful_of_requests(
    name: str, size: int, proxy: FaultyHttp, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(f"{name}_server")
    options = {
        option: value.replace(f":{server.port}", f":{proxy.port}") if isinstance(value, str) else value
        for option, value in server.storage_options.items()
    }
    store = ckpt.Store(server.fresh_store_url(), key=KEY, storage_options=options)
    asked = thousand.options(store=store)(size)
    writes = [len([one for one in some if WRITES.match(one)]) for some in asked]
    assert len(writes) == 3
    assert 1 <= max(writes) <= A_HANDFUL, asked
    assert max(map(len, asked)) <= 10 * A_HANDFUL, asked  # looking, and deleting what is no longer needed


def test_requests_of_a_large_object_are_parallel_and_few_at_once(
    name: str, proxy: FaultyHttp, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(f"{name}_server")
    storage = through(server, server.fresh_store_url(), proxy.port)
    content = np.random.default_rng(3).bytes(9 * PIECE)
    storage.exists("warm")
    proxy.most_at_once = 0
    assert storage.put("pack", [content]) == len(content)
    lanes = storage._client().lanes
    assert (lanes, min(2, lanes) <= proxy.most_at_once <= lanes) == (1 if name == "gcs" else 4, True)
    proxy.most_at_once = 0
    target = bytearray(len(content))
    assert storage.read_into("pack", 0, memoryview(target)) == len(content)
    assert target == content
    assert 2 <= proxy.most_at_once <= READERS
