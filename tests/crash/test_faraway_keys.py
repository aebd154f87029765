"""Keys are changed, and stores are encrypted, where the store is elsewhere: killed and resumed by other processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash import damage
from crash.harness import Kill
from crash.test_keys import MARKS, NEW, OLD, error_of, script
from servers.s3 import S3Server

from ckpt.storage import resolve
from ckpt.store import Store

Stored = Callable[[str], bytes]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> object:
    return script(tmp_path_factory.mktemp("plain") / "here").run(CKPT_DISABLE="1").result


@pytest.fixture
def stored(s3_server: S3Server) -> Stored:
    """All bytes of all objects in a store, but the leases'."""

    def read(url: str) -> bytes:
        storage = resolve(url, s3_server.storage_options)
        return b"".join(storage.get(key) for key in storage.list("") if not key.endswith("/lock"))

    return read


def test_run_on_s3_goes_on_under_a_new_key_while_the_old_one_is_at_hand(
    s3_server: S3Server, expected: object, scratch: Path
) -> None:
    url = s3_server.fresh_store_url()
    environ = {**s3_server.environ, "CKPT_STORE": url, **damage.EVERY}
    old, new, both = OLD.to_text(), NEW.to_text(), f"{NEW.to_text()},{OLD.to_text()}"
    assert script(scratch / "a").run(Kill(tick=3), **environ, CKPT_KEY=old).killed
    refused = error_of(script(scratch / "b").run(**environ, CKPT_KEY=new))
    assert refused.startswith("UntrustedError")
    assert OLD.id in refused
    assert script(scratch / "c").run(Kill(tick=2), **environ, CKPT_KEY=both).killed
    assert NEW.id in error_of(script(scratch / "d").run(**environ, CKPT_KEY=old))
    last = script(scratch / "e").run(**environ, CKPT_KEY=both)
    assert last.result == expected, last.err
    uses, problems = Store(url, key=both, storage_options=s3_server.storage_options).keys()
    assert (uses[0].id, uses[0].runs, problems) == (NEW.id, 1, [])


def test_encrypted_run_on_s3_leaves_nothing_in_clear_and_is_resumed_elsewhere(
    s3_server: S3Server, expected: object, stored: Stored, scratch: Path
) -> None:
    environ = {**s3_server.environ, "CKPT_KEY": NEW.to_text(), **damage.EVERY}
    clear, url = s3_server.fresh_store_url(), s3_server.fresh_store_url()
    assert script(scratch / "clear").run(Kill(tick=3), **environ, CKPT_STORE=clear).killed
    seen = {mark for mark in MARKS if mark in stored(clear)}
    assert seen >= {b"Oakland", b"Smith", b"answer"}, "these marks would not be missed"
    assert script(scratch / "a").run(Kill(tick=3), **environ, CKPT_STORE=url, CKPT_ENCRYPT="1").killed
    assert [mark for mark in MARKS if mark in stored(url)] == []
    last = script(scratch / "b").run(**environ, CKPT_STORE=url)  # says nothing of encryption: the store does
    assert last.result == expected, last.err
    assert [mark for mark in MARKS if mark in stored(url)] == []
