"""The connection to an SFTP server: made when it is needed, again when it was lost, and anew in every process.

asyncssh's loop runs in one thread per process, which nothing but this module touches; callers wait for it. A forked
child inherits neither thread nor connection: it makes its own. Who we are and which hosts are known is settled as ``ssh``
does it: ``~/.ssh/config``, the agent, ``~/.ssh/id_*``, ``~/.ssh/known_hosts``. Nothing here logs or shows a secret.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import asyncssh
import fsspec.config

from ckpt.errors import CkptError, MissingKeyError, OptionError, StorageError, StorageFullError, UnsupportedStorageError
from ckpt.storage.secrets import Redactor

OPTIONS = frozenset(
    {"username", "password", "port", "client_keys", "passphrase", "known_hosts", "agent_path", "config", "timeout_s"}
)
"""What storage options may say. All but ``timeout_s`` are asyncssh's own words."""

TIMEOUT_S = 60.0
"""One request, or one piece of a long one, that takes longer has failed."""

_CONNECT_S = 30.0
_KEEPALIVE_S, _KEEPALIVES = 15.0, 4
"""A silent server is asked for a sign of life so often; after so many unanswered ones the connection is lost."""

T = TypeVar("T")
Work = Callable[[asyncssh.SFTPClient], Coroutine[Any, Any, T]]


def checked_options(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``given`` over fsspec's configuration for sftp (``FSSPEC_SFTP_*``, its files). OptionError for an unknown one."""
    options = {**fsspec.config.conf.get("sftp", {}), **given}
    if unknown := sorted(set(options) - OPTIONS):
        fix = f"use only {', '.join(sorted(OPTIONS))}; all else belongs into ~/.ssh/config"
        raise OptionError(f"storage options that sftp:// does not know: {', '.join(unknown)}", where=where, fix=fix)
    try:
        options["timeout_s"] = float(options.get("timeout_s", TIMEOUT_S))
        if "port" in options:
            options["port"] = int(options["port"])
    except (TypeError, ValueError) as error:
        raise OptionError("timeout_s and port have to be numbers", where=where, fix="give a number") from error
    return options


class SftpConnection:
    """One connection to ``host``, used by all threads of this process at once. Does nothing until it is used."""

    def __init__(self, host: str, options: Mapping[str, Any]) -> None:
        self._asyncssh = {name: value for name, value in options.items() if name != "timeout_s"}
        self._host, self._timeout_s = host, options["timeout_s"]
        self._owned: tuple[int, _State] | None = None  # by the process with this pid

    def run(self, work: Work[T]) -> T:
        """What ``work`` returns; raises what it raises, and TimeoutError. A lost connection is forgotten, not mended."""
        state = self._own_state()
        future = asyncio.run_coroutine_threadsafe(self._run(state, work), _own_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupt of the waiting thread ends the request, too
            raise

    def _own_state(self) -> _State:
        with _guard:
            if self._owned is None or self._owned[0] != os.getpid():
                _abandoned.append(self._owned)
                self._owned = os.getpid(), _State()
            return self._owned[1]

    async def _run(self, state: _State, work: Work[T]) -> T:
        client = await self._connected(state)
        try:
            return await asyncio.wait_for(work(client), self._timeout_s)
        except Exception as error:
            if is_lost(error):
                state.drop(client)
            raise

    async def _connected(self, state: _State) -> asyncssh.SFTPClient:
        async with state.connecting:
            if state.client is None:
                state.connection = await asyncio.wait_for(
                    asyncssh.connect(
                        self._host,
                        keepalive_interval=_KEEPALIVE_S,
                        keepalive_count_max=_KEEPALIVES,
                        **self._asyncssh,
                    ),
                    _CONNECT_S,
                )
                state.client = await asyncio.wait_for(state.connection.start_sftp_client(), _CONNECT_S)
            return state.client


class _State:
    """What belongs to one process: its connection, and the lock under which that is made."""

    def __init__(self) -> None:
        self.connection: asyncssh.SSHClientConnection | None = None
        self.client: asyncssh.SFTPClient | None = None
        self.connecting = asyncio.Lock()

    def drop(self, client: asyncssh.SFTPClient) -> None:
        """Forget a lost connection, unless another one has taken its place already."""
        if self.client is client and self.connection is not None:
            self.connection.abort()
            self.client = self.connection = None


_loop: asyncio.AbstractEventLoop | None = None
_guard = threading.Lock()
_abandoned: list[object] = []
"""A forked child's copies of its parent's loops and connections. Letting them be collected would close them, and the
epoll behind a loop is the parent's, too."""


def _own_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _guard:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, daemon=True, name="ckpt-sftp").start()
        return _loop


def _forget_in_child() -> None:
    global _loop, _guard
    _guard = threading.Lock()  # another thread may have held it at the moment of the fork
    _abandoned.append(_loop)
    _loop = None


os.register_at_fork(after_in_child=_forget_in_child)


def is_lost(error: Exception) -> bool:
    """Whether the server may have acted although it did not answer, or may answer if it is asked again."""
    if isinstance(error, OSError):  # TimeoutError is one
        return not isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError))  # a key file of ours
    lost = (
        asyncssh.ConnectionLost,
        asyncssh.ChannelOpenError,
        asyncssh.SFTPConnectionLost,
        asyncssh.SFTPNoConnection,
    )
    return isinstance(error, lost)


def translate(error: Exception, doing: str, where: str, redact: Redactor) -> CkptError:
    """The error of ckpt that tells what ``error`` means for a store at ``where``; names no secret."""
    if isinstance(error, CkptError):
        return error
    reason = redact(str(error))
    text = f"cannot {doing}: {type(error).__name__}: {reason}"
    if isinstance(error, (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)) and doing in ("read", "share"):
        return MissingKeyError("is not there", where=where, fix="check the address of the store and the run")
    if isinstance(error, (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)):
        return StorageFullError(text, where=where, fix="free space or raise the quota there, then run again")
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return UnsupportedStorageError(text, where=where, fix="use OpenSSH's sftp-server, or another kind of store")
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        fix = "log in once with ssh, which asks you and writes ~/.ssh/known_hosts; or name that file as known_hosts"
        return StorageError(f"the server's host key is not known: {reason}", where=where, fix=fix)
    if isinstance(error, asyncssh.PermissionDenied):
        fix = "check user and key with `ssh -o BatchMode=yes USER@HOST`; name the key file as client_keys"
        return StorageError(f"the server does not let us in: {reason}", where=where, fix=fix)
    if isinstance(error, (asyncssh.KeyImportError, asyncssh.ConfigParseError)):
        return OptionError(
            f"cannot use the key or configuration: {reason}", where=where, fix="check client_keys, config"
        )
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return StorageError(text, where=where, fix="give this user the right to do so, or use another store")
    return StorageError(text, where=where, fix="check address, network and the server's log, then run again")
