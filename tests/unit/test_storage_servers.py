"""The adapters against real servers: the contract of a storage, and what goes wrong on the way to one."""

from __future__ import annotations

import random

import pytest
from servers.fixtures import Server
from servers.gcs import GcsServer

from ckpt.errors import UnsupportedStorageError
from ckpt.protocols import SharingStorage, Storage
from ckpt.storage import clients, resolve
from ckpt.storage.probe import probe
from ckpt.testing.contract import StorageContract


@pytest.fixture
def short_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few names in one answer, so that listings go on in the next one."""
    monkeypatch.setattr(clients, "LISTED_AT_ONCE", 3)


@pytest.mark.usefixtures("short_listings")
class TestS3(StorageContract):
    many_keys = 20

    @pytest.fixture
    def storage(self, s3_server: Server) -> Storage:
        return resolve(s3_server.fresh_store_url(), s3_server.storage_options)


@pytest.mark.usefixtures("short_listings")
class TestAzure(StorageContract):
    many_keys = 20

    @pytest.fixture
    def storage(self, azure_server: Server) -> Storage:
        return resolve(azure_server.fresh_store_url(), azure_server.storage_options)


@pytest.mark.usefixtures("short_listings")
class TestGcs(StorageContract):
    many_keys = 20

    @pytest.fixture
    def storage(self, gcs_server: Server) -> Storage:
        return resolve(gcs_server.fresh_store_url(), gcs_server.storage_options)


def test_large_objects_are_copied_in_parts(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ckpt.storage.s3.COPIED_AT_ONCE", 5 << 20)
    storage = resolve(s3_server.fresh_store_url(), s3_server.storage_options)
    data = random.Random(5).randbytes((11 << 20) + 7)
    storage.put("job/a/pack/1-0.pack", [data])
    assert isinstance(storage, SharingStorage)
    storage.share("job/a/pack/1-0.pack", "job/b/pack/1-0@a.pack")
    assert storage.get("job/b/pack/1-0@a.pack") == data


def test_a_service_that_refuses_to_copy_is_done_without(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: str) -> None:
        raise PermissionError("the copy is refused")

    monkeypatch.setattr("ckpt.storage.s3.S3Client.copy", refuses)
    storage = resolve(s3_server.fresh_store_url(), s3_server.storage_options)
    storage.put("job/a/pack/1-0.pack", [b"shared"])
    assert isinstance(storage, SharingStorage)
    storage.share("job/a/pack/1-0.pack", "job/b/pack/1-0@a.pack")
    assert storage.get("job/b/pack/1-0@a.pack") == b"shared"


def test_a_gcs_server_that_ignores_preconditions_is_refused(careless_gcs_server: GcsServer) -> None:
    storage = resolve(careless_gcs_server.fresh_store_url(), careless_gcs_server.storage_options)
    with pytest.raises(UnsupportedStorageError, match=r"won instead of one|overwrites"):
        probe(storage)
