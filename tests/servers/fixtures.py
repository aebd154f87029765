"""The servers as pytest fixtures, each started once per session, at its first use; skipped where it is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import pytest

from servers import Missing
from servers.azure import AzureServer
from servers.gcs import GcsServer
from servers.s3 import S3Server
from servers.sftp import SftpServer


class Server(Protocol):
    """What all servers have (see ``servers``)."""

    @property
    def port(self) -> int: ...

    @property
    def storage_options(self) -> dict[str, object]: ...

    @property
    def environ(self) -> dict[str, str]: ...

    def fresh_store_url(self) -> str: ...


S = TypeVar("S")


def running(make: Callable[[], AbstractContextManager[S]]) -> Iterator[S]:
    """A server that runs while the test session does. Skips the test if it is not installed."""
    try:
        server = make()
    except Missing as missing:
        pytest.skip(str(missing))
    with server as started:
        yield started


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    yield from running(S3Server)


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    yield from running(AzureServer)


@pytest.fixture(scope="session")
def sftp_server() -> Iterator[SftpServer]:
    yield from running(SftpServer)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    yield from running(GcsServer)


@pytest.fixture(scope="session")
def careless_gcs_server() -> Iterator[GcsServer]:
    """A GCS server that ignores preconditions, as emulators do."""
    yield from running(lambda: GcsServer(honours_preconditions=False))
