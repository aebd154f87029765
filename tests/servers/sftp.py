"""OpenSSH's sshd with its sftp-server, run as the current user, with keys made for this one run."""

from __future__ import annotations

import getpass
import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from servers import Missing
from servers.process import START_S, ServerProcess, free_port

SBIN = "/usr/sbin:/usr/local/sbin:/sbin"
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server")
START_TRIES = 3

CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
MaxStartups 200
MaxSessions 100
UseDNS no
LogLevel VERBOSE
Subsystem sftp {sftp_server} {sftp_options}
"""


class SftpServer:
    """``sftp://`` on OpenSSH. ``sftp_options`` go to the sftp-server (``-P hardlink`` denies that request)."""

    def __init__(self, *, sftp_options: str = "") -> None:
        install = "apt-get install openssh-server openssh-client"
        self._sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{SBIN}")
        if self._sshd is None or shutil.which("ssh-keygen") is None:
            raise Missing(f"the SFTP server needs sshd and ssh-keygen: {install}")
        server = next((path for path in SFTP_SERVERS if Path(path).exists()), None)
        if server is None:
            raise Missing(f"the SFTP server needs OpenSSH's sftp-server: {install}")
        if importlib.util.find_spec("asyncssh") is None:
            raise Missing("the SFTP adapter needs asyncssh: pip install asyncssh")
        self._sftp_server, self._sftp_options = server, sftp_options
        self.process = ServerProcess("sshd")
        self.folder, self.port = self.process.folder, 0
        self._names = itertools.count()

    def __enter__(self) -> Self:
        try:
            self._make_keys()
            for attempt in range(START_TRIES):
                try:
                    self._start()
                    break
                except RuntimeError:  # somebody else took the port since it was chosen
                    if attempt == START_TRIES - 1:
                        raise
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop()

    @property
    def user_key(self) -> Path:
        return self.folder / "user_key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def storage_options(self) -> dict[str, object]:
        return {"client_keys": str(self.user_key), "known_hosts": str(self.known_hosts)}

    @property
    def environ(self) -> dict[str, str]:
        return {"FSSPEC_SFTP_CLIENT_KEYS": str(self.user_key), "FSSPEC_SFTP_KNOWN_HOSTS": str(self.known_hosts)}

    def fresh_store_url(self) -> str:
        return f"sftp://{getpass.getuser()}@127.0.0.1:{self.port}{self.fresh_folder()}"

    def fresh_folder(self) -> Path:
        """The folder on this machine that a new store is in; it is not made yet, its parent is."""
        return self.folder / f"store-{next(self._names)}"

    def _make_keys(self) -> None:
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        (self.folder / "authorized_keys").write_text((self.folder / "user_key.pub").read_text())

    def _start(self) -> None:
        assert self._sshd is not None
        self.port = free_port()
        host_key = (self.folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}")
        config = self.folder / "sshd_config"
        config.write_text(
            CONFIG.format(
                port=self.port,
                folder=self.folder,
                sftp_server=self._sftp_server,
                sftp_options=self._sftp_options,
            )
        )
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd locks itself up in there, and wants it made
        self.process.start([self._sshd, "-D", "-e", "-f", str(config)], r"Server listening on")
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not answer:\n{self.process.log.read_text()}")
            time.sleep(0.05)
