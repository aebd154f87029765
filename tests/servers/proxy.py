"""A TCP proxy in front of a server, which can lose answers, refuse connections, and be slow.

Nothing here knows what is spoken. "The answer of the next request" is therefore: once bytes have gone from the client
to the server, the next bytes that come back are not passed on, and the connection is cut. The server has acted.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class FaultyProxy:
    """Listens on ``port`` of 127.0.0.1 and passes all on to ``target``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._cut_answers, self._skip, self._silently = 0, 0, False
        self._refusing, self._refuse_when_cut, self._delay_s = False, False, 0.0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.cut, self.connections = 0, 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True, name="proxy").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_connections()

    def cut_next_answers(self, count: int = 1, *, skip: int = 0, silently: bool = False) -> None:
        """Cut the connection when the next ``count`` answers come back, after ``skip`` that pass.

        ``silently``: keep it open instead, and pass nothing back any more; the client has to notice by the time.
        """
        with self._lock:
            self._cut_answers, self._skip, self._silently = count, skip, silently

    def refuse(self, refusing: bool = True) -> None:
        """From now on (do not) accept connections; the open ones are cut, too: the server is unreachable."""
        with self._lock:
            self._refusing = refusing
        if refusing:
            self.cut_connections()

    def refuse_when_cut(self) -> None:
        """Become unreachable with the next answer that is cut, until ``refuse(False)``."""
        with self._lock:
            self._refuse_when_cut = True

    def delay(self, seconds: float) -> None:
        """Hold back every answer for so long."""
        with self._lock:
            self._delay_s = seconds

    def cut_connections(self) -> None:
        """Cut all connections that are open now."""
        with self._lock:
            victims = list(self._open)
        for one in victims:
            reset(one)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self.connections += 1
            threading.Thread(target=self._pass_on, args=(client,), daemon=True, name="proxied").start()

    def _pass_on(self, client: socket.socket) -> None:
        with self._lock:
            refusing = self._refusing
        if refusing:
            reset(client)
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        except OSError:
            reset(client)
            client.close()
            return
        server.settimeout(None)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
        try:
            with contextlib.suppress(OSError):
                self._pump(client, server)
        finally:
            with self._lock:
                self._open -= {client, server}
            client.close()
            server.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        asked = silent = False
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ)
            ready.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    source = client if key.fileobj is client else server
                    data = source.recv(CHUNK)
                    if not data:
                        return
                    if source is client:
                        asked = True
                        server.sendall(data)
                        continue
                    if asked and not silent and self._is_to_be_cut():
                        silent = self._silently
                        if not silent:
                            reset(client)
                            return
                    if silent:
                        continue
                    asked = False
                    if self._delay_s:
                        time.sleep(self._delay_s)
                    client.sendall(data)

    def _is_to_be_cut(self) -> bool:
        with self._lock:
            if self._cut_answers == 0:
                return False
            if self._skip > 0:
                self._skip -= 1
                return False
            self._cut_answers -= 1
            self.cut += 1
            self._refusing, self._refuse_when_cut = self._refusing or self._refuse_when_cut, False
            return True


def reset(connection: socket.socket) -> None:
    """End a connection at once, with a reset and not with an orderly end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
