"""An HTTP proxy in front of an object store's server, which misbehaves at chosen requests.

A fault waits for a request whose method and address fit, and strikes ``times`` times:
``lose``      the server acts, and the connection is cut instead of an answer
``drop``      the connection is cut before the server has heard of it
``answer``    a status (and headers) instead of asking the server
``after``     the same, but the server has acted before
``hang``      neither an answer nor an end; the server has not heard of it
``mute``      the same, but the server has acted
"""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from servers.proxy import reset


@dataclass(slots=True)
class HttpFault:
    """One fault (see the module). ``asked`` is matched against ``METHOD /path?query``."""

    asked: str
    kind: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: int = 1
    struck: int = 0


class FaultyHttp:
    """Listens on ``port`` of 127.0.0.1; ``faults`` may be changed at any time; ``seen`` has all requests.

    ``most_at_once``: the greatest number of requests that were on their way to the server or back at any moment.
    """

    def __init__(self, target: int) -> None:
        self.target, self.seen = target, list[str]()
        self.faults: list[HttpFault] = []
        self._lock = threading.Lock()
        self.at_once = self.most_at_once = 0
        self.ended = threading.Event()
        handler = type("Bound", (_Handler,), {"proxy": self})
        self._server = _Listener(("127.0.0.1", 0), handler)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True, name="faulty-http").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        finally:
            with self._lock:
                self.at_once -= 1

    def take(self, asked: str) -> HttpFault | None:
        with self._lock:
            self.seen.append(asked)
            for fault in self.faults:
                if fault.struck < fault.times and re.search(fault.asked, asked):
                    fault.struck += 1
                    return fault
        return None


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultyHttp

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: ``seen`` has it."""

    def _pass(self) -> None:
        with self.proxy.counted():
            self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.take(f"{self.command} {self.path}")
        kind = fault.kind if fault else "pass"
        if kind == "hang":
            self.proxy.ended.wait()
        if kind in ("drop", "hang"):
            return self._cut()
        if fault is not None and kind == "answer":
            return self._send(fault.status, dict(fault.headers), fault.body)
        status, headers, answer = self._forward(body)
        if kind == "mute":
            self.proxy.ended.wait()
        if kind in ("lose", "mute"):
            return self._cut()
        if fault is not None and kind == "after":
            return self._send(fault.status, dict(fault.headers), fault.body)
        return self._send(status, headers, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.target, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        own = {"transfer-encoding", "connection", "content-length"}
        for name, value in headers.items():
            if name.lower() not in own:
                self.send_header(name, value)
        length = next((v for n, v in headers.items() if n.lower() == "content-length"), None)
        if status not in (204, 304):
            self.send_header("Content-Length", (length or "0") if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _cut(self) -> None:
        self.close_connection = True
        reset(self.connection)
