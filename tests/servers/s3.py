"""Moto's S3 server, in a process of its own."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import urllib.request
from types import TracebackType
from typing import Self

from servers import Missing
from servers.process import ServerProcess

# The server says its port itself: none is lost to another process between choosing and listening.
PROGRAM = """
import functools, signal, threading
import moto.backends
import moto.s3.responses
from moto.server import ThreadedMotoServer
# Looked up in the file system at every request: a fifth of its time.
moto.backends.list_of_moto_modules = functools.partial(tuple, moto.backends.list_of_moto_modules())
# Moto looks and creates in two steps: of several threads more than one may win, which S3 excludes.
one_at_a_time, put_object = threading.Lock(), moto.s3.responses.S3Response.put_object
def put_alone(self):
    with one_at_a_time:
        return put_object(self)
moto.s3.responses.S3Response.put_object = put_alone
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("LISTENING %s %d" % server.get_host_and_port(), flush=True)
signal.pause()
"""


class S3Server:
    """``s3://`` on moto."""

    def __init__(self) -> None:
        for package in ("moto", "flask", "flask_cors"):
            if importlib.util.find_spec(package) is None:
                raise Missing(f'the S3 server needs {package}: pip install "moto[server]"')
        if importlib.util.find_spec("s3fs") is None:
            raise Missing("the S3 adapter needs s3fs: pip install s3fs")
        self.process = ServerProcess("moto")
        self.endpoint = ""
        self._names = itertools.count()

    def __enter__(self) -> Self:
        try:
            found = self.process.start([sys.executable, "-c", PROGRAM], r"LISTENING (\S+) (\d+)")
        except BaseException:
            self.process.stop()
            raise
        self.endpoint = f"http://{found[1]}:{found[2]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop()

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def storage_options(self) -> dict[str, object]:
        return {
            "key": "testing",
            "secret": "testing",
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def fresh_store_url(self) -> str:
        bucket = f"bucket-{next(self._names)}"
        # Moto checks no signature.
        request = urllib.request.Request(f"{self.endpoint}/{bucket}", method="PUT")
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request")
        with urllib.request.urlopen(request, timeout=30):
            return f"s3://{bucket}/store"
