"""Servers that accept a request and never answer: the call ends by its time, and is made again or is a typed error.

The proxy holds a hanging request until the test is over, so a request without a limit would hang as long.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.faulty_http import FaultyHttp, HttpFault
from servers.fixtures import Server
from servers.proxy import FaultyProxy
from servers.sftp import SftpServer
from unit.test_storage_answers import GIVES_UP, PIECES, SMALL_WRITE, Way, through

from ckpt.errors import MissingKeyError, StorageError
from ckpt.storage import clients, resolve
from ckpt.storage.retrying import RetryPolicy
from ckpt.storage.uploading import PIECE

LIMIT_S = 0.8
PATIENT = RetryPolicy(first_s=0.01, longest_s=0.05, deadline_s=40.0)
SILENCES = [(PIECES[0], "hang"), (PIECES[1], "mute"), (PIECES[2], "mute")]


@pytest.fixture(params=["s3", "azure", "gcs"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    url = server.fresh_store_url()
    with FaultyHttp(server.port) as proxy:
        found = Way(proxy, through(server, url, proxy.port, PATIENT), resolve(url, server.storage_options))
        found.through.exists("warm")  # imports and credentials take their time, too
        monkeypatch.setattr(clients, "REQUEST_S", LIMIT_S)
        yield found
    del found
    gc.collect()  # cancelled requests complain when they are collected: here, and not in the midst of something else


@pytest.mark.timeout(60)
def test_request_that_is_never_answered_ends_by_its_time_and_is_made_again(way: Way) -> None:
    fault = HttpFault(SMALL_WRITE, "mute")
    way.strike(fault)
    assert way.through.put_if_absent("slot", b"my nonce") is True
    assert fault.struck == 1
    way.strike(HttpFault("^(GET|HEAD)", "hang"))
    assert way.through.get("slot") == b"my nonce"
    way.strike(HttpFault("^DELETE", "mute"))
    way.through.delete("slot")
    assert way.beside.list("") == []


@pytest.mark.timeout(60)
def test_server_that_never_answers_is_a_typed_error(way: Way) -> None:
    way.through._retrying._policy = GIVES_UP
    way.strike(HttpFault(".", "hang", times=1000))
    for call in (lambda: way.through.get("slot"), lambda: way.through.put("floor", [b"x"])):
        with pytest.raises(StorageError, match="Timeout") as caught:
            call()
        assert not isinstance(caught.value, MissingKeyError)
        assert "wait until" in caught.value.fix
    way.strike()
    assert way.beside.list("") == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("asked", "kind"), SILENCES, ids=["piece", "begin", "end"])
def test_large_object_with_a_silence_on_the_way_is_there_once_and_whole(way: Way, asked: str, kind: str) -> None:
    content = random.Random(9).randbytes(PIECE + 1000)
    way.strike(HttpFault(asked, kind))
    assert way.through.put("job/pack", [content]) == len(content)
    assert way.beside.get("job/pack") == content
    assert way.beside.list("") == ["job/pack"]


@pytest.mark.timeout(60)
def test_large_object_whose_piece_is_never_answered_is_given_up_whole(way: Way) -> None:
    way.beside.put("job/pack", [b"old"])
    way.through._retrying._policy = GIVES_UP
    way.strike(HttpFault(PIECES[0], "hang", times=1000))
    with pytest.raises(StorageError, match="cannot write"):
        way.through.put("job/pack", [bytes(PIECE + 1)])
    assert way.beside.get("job/pack") == b"old"
    assert way.beside.list("") == ["job/pack"]
    seen = "\n".join(way.proxy.seen)
    if "uploadId=" in seen:  # S3 keeps, and charges for, pieces until somebody gives the upload up
        assert "DELETE" in seen
    way.strike()
    way.through._retrying._policy = PATIENT
    assert way.through.put("job/pack", [bytes(PIECE + 1)]) == PIECE + 1
    assert way.beside.size("job/pack") == PIECE + 1


@pytest.mark.timeout(60)
def test_long_put_on_sftp_that_is_not_answered_in_time_leaves_the_old_content(
    sftp_server: SftpServer, tmp_path: Path
) -> None:
    with FaultyProxy(sftp_server.port) as proxy:
        known = tmp_path / "known_hosts"
        known.write_text(sftp_server.known_hosts.read_text().replace(f":{sftp_server.port} ", f":{proxy.port} "))
        options = {**sftp_server.storage_options, "known_hosts": str(known), "timeout_s": LIMIT_S}
        folder = sftp_server.fresh_folder()
        storage = resolve(f"sftp://127.0.0.1:{proxy.port}{folder}", options)
        storage.put("job/pack", [b"old"])

        def parts() -> Iterator[bytes]:
            yield bytes(2 * PIECE)
            proxy.cut_next_answers(silently=True)
            yield bytes(PIECE)

        with pytest.raises(StorageError, match="cannot write"):
            storage.put("job/pack", parts())
        assert storage.get("job/pack") == b"old"
        assert storage.put("job/pack", [b"new"]) == 3
        assert [path.name for path in (folder / "job").iterdir()] == ["pack"]
