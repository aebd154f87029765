"""Azurite, Microsoft's emulator of Azure Blob Storage, keeping all in memory."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
from types import TracebackType
from typing import Self

from servers import Missing
from servers.process import ServerProcess

ACCOUNT = "devstoreaccount1"
SECRET = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every emulator of this kind has, with its published key."""


class AzureServer:
    """``az://`` on azurite, found on the PATH."""

    def __init__(self) -> None:
        self._program = shutil.which("azurite-blob")
        if self._program is None:
            raise Missing("the Azure server needs azurite-blob on the PATH: npm install -g azurite")
        if importlib.util.find_spec("adlfs") is None:
            raise Missing("the Azure adapter needs adlfs: pip install adlfs")
        self.process = ServerProcess("azurite")
        self.endpoint = ""
        self._names = itertools.count()

    def __enter__(self) -> Self:
        assert self._program is not None
        options = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        command = [self._program, "--blobHost", "127.0.0.1", "--blobPort", "0", *options]
        try:
            found = self.process.start(command, r"listen\w* (?:at|on) (http://[\d.]+:[1-9]\d*)")
        except BaseException:
            self.process.stop()
            raise
        self.endpoint = found[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop()

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={SECRET};"
            f"BlobEndpoint={self.endpoint}/{ACCOUNT};"
        )

    @property
    def storage_options(self) -> dict[str, object]:
        return {"connection_string": self.connection_string}

    @property
    def environ(self) -> dict[str, str]:
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string}

    def fresh_store_url(self) -> str:
        from azure.storage.blob import BlobServiceClient

        container = f"container-{next(self._names)}"
        with BlobServiceClient.from_connection_string(self.connection_string) as client:
            client.create_container(container)
        return f"az://{container}/store"
