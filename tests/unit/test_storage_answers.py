"""Lost answers, refusals and silence on the way to real servers: never a duplicate, a lost write, or a wrong "no"."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from servers.faulty_http import FaultyHttp, HttpFault
from servers.fixtures import Server

from ckpt.errors import MissingKeyError, StorageError
from ckpt.storage import resolve
from ckpt.storage.remote import RemoteStorage
from ckpt.storage.retrying import RetryPolicy
from ckpt.storage.uploading import PIECE

QUICK = RetryPolicy(first_s=0.01, longest_s=0.05, deadline_s=5.0)
GIVES_UP = RetryPolicy(first_s=0.01, longest_s=0.05, deadline_s=0.3)

CREATE = r"^(PUT|POST) .*slot|^POST /upload/.*ifGenerationMatch=0"
WRITE = r"^PUT .*(floor|slot)|^POST /upload/.*uploadType=multipart|^POST /upload/.*/o\b"
SMALL_WRITE = rf"{CREATE}|{WRITE}"


@dataclass(frozen=True, slots=True)
class Way:
    """A store that is reached through a proxy, and the same store without it."""

    proxy: FaultyHttp
    through: RemoteStorage
    beside: Any

    def strike(self, *faults: HttpFault) -> None:
        self.proxy.faults[:] = faults


@pytest.fixture(params=["s3", "azure", "gcs"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    url = server.fresh_store_url()
    with FaultyHttp(server.port) as proxy:
        yield Way(proxy, through(server, url, proxy.port), resolve(url, server.storage_options))


def through(server: Server, url: str, port: int, policy: RetryPolicy = QUICK) -> RemoteStorage:
    options = {
        name: value.replace(f":{server.port}", f":{port}") if isinstance(value, str) else value
        for name, value in server.storage_options.items()
    }
    storage = resolve(url, options)
    assert isinstance(storage, RemoteStorage)
    storage._retrying._policy = policy
    return storage


FAULTS = {
    "answer lost": HttpFault("", "lose"),
    "two answers lost": HttpFault("", "lose", times=2),
    "request lost": HttpFault("", "drop"),
    "503 before": HttpFault("", "answer", 503, {"Retry-After": "0"}),
    "500 after the effect": HttpFault("", "after", 500),
    "502 before": HttpFault("", "answer", 502),
    "504 after the effect": HttpFault("", "after", 504),
    "429 before": HttpFault("", "answer", 429, times=2),
    "409 conflict": HttpFault("", "answer", 409, body=b"<Error><Code>ConditionalRequestConflict</Code></Error>"),
}


def at(asked: str, name: str) -> HttpFault:
    kind = FAULTS[name]
    return HttpFault(asked, kind.kind, kind.status, kind.headers, kind.body, kind.times)


@pytest.mark.parametrize("name", FAULTS)
def test_a_create_with_a_fault_on_the_way_happens_once_and_is_known_to_be_mine(way: Way, name: str) -> None:
    fault = at(SMALL_WRITE, name)
    way.strike(fault)
    assert way.through.put_if_absent("slot", b"my nonce") is True
    assert fault.struck == fault.times or fault.kind == "lose"
    assert fault.struck >= 1
    assert way.beside.get("slot") == b"my nonce"
    assert way.through.put_if_absent("slot", b"another") is False
    assert way.beside.list("") == ["slot"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_create_with_a_fault_on_the_way_never_takes_what_is_anothers(way: Way, name: str) -> None:
    way.beside.put("slot", [b"theirs"])
    way.strike(at(SMALL_WRITE, name))
    assert way.through.put_if_absent("slot", b"mine") is False
    assert way.beside.get("slot") == b"theirs"


@pytest.mark.parametrize("name", FAULTS)
def test_writing_reading_and_deleting_with_a_fault_on_the_way(way: Way, name: str) -> None:
    way.strike(at(SMALL_WRITE, name))
    assert way.through.put("floor", [b"one"]) == 3
    assert way.beside.get("floor") == b"one"
    for call in (
        lambda: way.through.get("floor") == b"one",
        lambda: way.through.get("floor", 1, 1) == b"n",
        lambda: way.through.size("floor") == 3,
        lambda: way.through.exists("floor"),
        lambda: not way.through.exists("absent"),
        lambda: way.through.list("") == ["floor"],
        lambda: way.through.children("") == ["floor"],
    ):
        way.strike(at("^(GET|HEAD)", name))
        assert call()
    fault = at("^DELETE", name)
    way.strike(fault)
    way.through.delete("floor")
    assert fault.struck >= 1
    assert not way.beside.exists("floor")


PIECES = (
    r"^PUT .*(partNumber=|comp=block(&|$))|^POST /upload/resumable",  # a piece
    r"^POST .*uploads|^POST /upload/.*uploadType=resumable",  # the beginning
    r"^POST .*uploadId=|^PUT .*comp=blocklist|^POST /upload/resumable",  # the end
)


@pytest.mark.parametrize("asked", PIECES, ids=["piece", "begin", "end"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_large_object_with_a_fault_on_the_way_is_there_once_and_whole(way: Way, name: str, asked: str) -> None:
    content = random.Random(7).randbytes(2 * PIECE + 1000)
    way.strike(at(asked, name))
    assert way.through.put("job/pack", iter([content[:100], content[100:]])) == len(content)
    assert way.beside.get("job/pack") == content
    assert way.beside.list("") == ["job/pack"]


def test_a_large_object_whose_pieces_never_arrive_is_not_there_at_all(way: Way) -> None:
    way.beside.put("job/pack", [b"old"])
    way.through._retrying._policy = GIVES_UP
    way.strike(HttpFault(PIECES[0], "answer", 503, times=1000))
    with pytest.raises(StorageError) as caught:
        way.through.put("job/pack", [bytes(2 * PIECE + 1)])
    assert not isinstance(caught.value, MissingKeyError)
    assert caught.value.where.endswith("/job/pack")
    assert "wait until" in caught.value.fix
    assert way.beside.get("job/pack") == b"old"
    assert way.beside.list("") == ["job/pack"]


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_is_said_at_once_and_not_tried_again(way: Way, status: int) -> None:
    for call, asked in (
        (lambda: way.through.put("floor", [b"x"]), SMALL_WRITE),
        (lambda: way.through.size("floor"), "^(GET|HEAD)"),
        (lambda: way.through.put_if_absent("slot", b"x"), SMALL_WRITE),
    ):
        way.strike(HttpFault(asked, "answer", status, times=1000))
        before = len(way.proxy.seen)
        with pytest.raises(StorageError) as caught:
            call()
        assert not isinstance(caught.value, MissingKeyError)
        assert caught.value.fix
        assert len(way.proxy.seen) - before <= 2  # a create looks once whether it has happened
    assert way.beside.list("") == []


def test_a_storage_that_says_503_for_good_is_a_typed_error_after_the_deadline(way: Way) -> None:
    way.through._retrying._policy = GIVES_UP
    way.strike(HttpFault(SMALL_WRITE, "answer", 503, times=1000))
    with pytest.raises(StorageError, match=r"cannot create"):
        way.through.put_if_absent("slot", b"mine")
    assert not way.beside.exists("slot")
    way.strike()
    assert way.through.put_if_absent("slot", b"mine") is True


def test_retry_after_is_honoured(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    clock = way.through._retrying._clock
    monkeypatch.setattr(type(clock), "sleep", lambda _self, seconds: pauses.append(seconds))
    way.strike(HttpFault(SMALL_WRITE, "answer", 503, {"Retry-After": "2"}))
    way.through.put("floor", [b"x"])
    assert len(pauses) == 1
    assert 2.0 <= pauses[0] <= 2.1
