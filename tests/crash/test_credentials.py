"""Credentials reach the storage, and nothing else: not the log, no message, no traceback, nothing that ckpt shows."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from pathlib import Path

import fsspec.config
import pytest
from click.testing import CliRunner
from crash.harness import KILLED, PROGRAMS, Attempt, Kill, Script
from servers.faulty_http import FaultyHttp, HttpFault
from servers.s3 import S3Server
from servers.sftp import SftpServer

import ckpt
from ckpt.cli import cli
from ckpt.protocols import Storage
from ckpt.settings import Environment, Options
from ckpt.storage import resolve

KEY = "6e" * 32
ID, SECRET, TOKEN = "AKIAKNOWNTOFEW00", "wJalrXUtn/FEMI/K7MDENG+bPxRf", "FwoGZXIvYXdzEAsession"
PASSWORD = "pass@word-of-mine"
TOTAL = 7919 * 15


def looked_at(store: str, env: dict[str, str]) -> str:
    """All that the command line says of the run."""
    said = ""
    commands = ["ls", "ls --json", "show work", "show work --json", "log work", "log work --json", "verify work"]
    for command in commands:
        done = CliRunner().invoke(cli, [*command.split(), "--store", store], env={"CKPT_KEY": KEY, **env})
        assert done.exit_code == 0, done.output
        said += done.output
    return said


def assert_hidden(secrets: Iterable[str], storage: Storage, said: Iterable[str], *, seen: Iterable[str]) -> None:
    """No secret anywhere; ``seen`` says what a look into the store's bytes would have found beside them."""
    stored = b"".join(storage.get(key) for key in storage.list(""))
    for word in seen:
        assert word.encode() in stored, word
    for secret in secrets:
        assert secret.encode() not in stored, secret
        for text in said:
            assert secret not in text, text


def text_of(attempt: Attempt) -> str:
    return attempt.out + attempt.err


ECHO = f"<Error><Code>Refused</Code><Message>{ID} {SECRET} {TOKEN} are no good</Message></Error>".encode()


def test_credentials_in_storage_options_are_shown_and_stored_nowhere(s3_server: S3Server, tmp_path: Path) -> None:
    url = s3_server.fresh_store_url()
    with FaultyHttp(s3_server.port) as proxy:
        options = {"key": ID, "secret": SECRET, "token": TOKEN, "client_kwargs": {"region_name": "us-east-1"}}
        env = {"OPTIONS": json.dumps({**options, "endpoint_url": f"http://127.0.0.1:{proxy.port}"}), "CKPT_KEY": KEY}
        script = Script(PROGRAMS / "secretive.py", tmp_path, (url,))
        killed = script.run(Kill(tick=3), **env)
        assert killed.status == KILLED, killed.err
        # A storage that fails, and repeats in its answers what it was given.
        proxy.faults[:] = [HttpFault("^PUT", "answer", 503, body=ECHO, times=8)]
        finished = script.run(**env)
        assert finished.result == TOTAL, finished.err
        assert "Refused" in finished.err, "the storage's word is passed on"
        proxy.faults[:] = [HttpFault("^GET .*FORMAT", "answer", 403, body=ECHO, times=8)]
        refused = script.run(**env)
        assert "StorageError" in refused.err
        assert "are no good" in refused.err
    storage = resolve(url, s3_server.storage_options)
    shown = looked_at(url, s3_server.environ)
    texts = [shown, *map(text_of, (killed, finished, refused))]
    assert_hidden((ID, SECRET, TOKEN, KEY), storage, texts, seen=("secretive.py", url))


def test_password_in_an_address_is_shown_and_stored_nowhere(
    sftp_server: SftpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "sftp", dict(sftp_server.storage_options))
    plain = sftp_server.fresh_store_url()
    url = plain.replace("@", f":{PASSWORD.replace('@', '%40')}@")
    env = {"OPTIONS": "{}", "CKPT_KEY": KEY, **sftp_server.environ}
    script = Script(PROGRAMS / "secretive.py", tmp_path, (url,))
    killed = script.run(Kill(tick=3), **env)
    assert killed.status == KILLED, killed.err
    failed = script.run(**env, FAIL="1")
    assert f"nothing is right at {url}" in failed.err, "what the program itself says is its own affair"
    shown = looked_at(url, {})
    assert f"nothing is right at {plain}" in shown
    storage = resolve(plain, sftp_server.storage_options)
    secrets = (PASSWORD, PASSWORD.replace("@", "%40"), KEY)
    assert_hidden(secrets, storage, [shown], seen=("secretive.py", f"nothing is right at {plain}"))
    finished = script.run(**env)
    assert finished.result == TOTAL, finished.err
    unreachable = Script(script.path, tmp_path, (url.replace(f":{sftp_server.port}", ":1"),)).run(**env)
    assert "StorageError" in unreachable.err
    assert_hidden(secrets, storage, map(text_of, (killed, finished, unreachable)), seen=("secretive.py", plain))


def test_store_is_never_pickled_and_options_show_none_of_it() -> None:
    with pytest.raises(TypeError, match="credentials"):
        pickle.dumps(ckpt.Store("s3://bucket/x", key=KEY, storage_options={"secret": SECRET}))
    environment = Environment(False, f"sftp://me:{PASSWORD}@host/x", None, KEY, False, None, 1.0)
    for text in (repr(environment), repr(Options(store=f"sftp://me:{PASSWORD}@host/x"))):
        assert PASSWORD not in text
        assert KEY not in text
