"""Addresses: which storage they mean, and which are refused with a fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.storage_doubles import SCHEME

from ckpt.errors import OptionError
from ckpt.storage import (
    LocalStorage,
    MemoryStorage,
    add_wrapper,
    is_in_process,
    local_path,
    remove_wrapper,
    resolve,
)
from ckpt.storage.remote import RemoteStorage
from ckpt.testing import FaultPlan, FaultyStorage


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/", "{}/x/.."])
def test_path_in_any_form_is_the_same_local_store(form: str, tmp_path: Path) -> None:
    storage = resolve(form.format(tmp_path))
    assert isinstance(storage, LocalStorage)
    assert storage.url == str(tmp_path)
    assert local_path(storage) == tmp_path
    assert not is_in_process(storage)


def test_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = resolve(Path(".ckpt"))
    monkeypatch.chdir("/")
    storage.put("a", [b"x"])
    assert (tmp_path / ".ckpt" / "a").read_bytes() == b"x"


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/store").url == str(tmp_path / "store")


def test_memory_address_is_this_process(tmp_path: Path) -> None:
    storage = resolve(f"memory://{tmp_path.name}")
    assert isinstance(storage, MemoryStorage)
    assert storage.url == f"memory://{tmp_path.name}"
    assert local_path(storage) is None
    assert is_in_process(storage)


def test_nothing_is_written_before_the_first_use(tmp_path: Path) -> None:
    resolve(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "empty"),
        ("memory://", "empty"),
        ("nosuch://bucket/x", "not an address"),
        ("simplecache::s3://bucket/x", "chained"),
        ("~nobody-of-that-name/x", "no such user"),
    ],
)
def test_senseless_address_is_an_option_error_with_a_fix(url: str, what: str) -> None:
    with pytest.raises(OptionError, match=what) as caught:
        resolve(url)
    assert caught.value.fix


def test_an_unknown_kind_of_address_is_told_all_that_there_are() -> None:
    with pytest.raises(OptionError) as caught:
        resolve("nosuch://bucket/x")
    for known in ("a path", "file://", "memory://", "sftp://", "s3://", "gs://", "az://"):
        assert known in caught.value.fix


@pytest.mark.parametrize(
    ("url", "place"),
    [("s3://", "bucket"), ("s3:///x", "bucket"), ("gs://", "bucket"), ("az://", "container"), ("abfs:///x", "container")],
)
def test_a_missing_bucket_is_said_before_anything_is_asked(url: str, place: str) -> None:
    with pytest.raises(OptionError, match=f"the name of the {place} is missing") as caught:
        resolve(url)
    assert f"write {url.partition('/')[0]}//{place.upper()}" in caught.value.fix


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(scheme: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    for scheme, extra in (("s3", "s3"), ("az", "azure"), ("gs", "gcs")):
        with pytest.raises(OptionError, match=rf'pip install "ckpt-jobs\[{extra}\]"'):
            resolve(f"{scheme}://bucket/x")
    with pytest.raises(OptionError, match="Install s3fs"):
        resolve("other://bucket/x")


def test_options_for_a_local_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        resolve(tmp_path, {"endpoint_url": "http://x"})


def test_wrapper_is_put_around_what_resolve_returns(tmp_path: Path) -> None:
    plan = FaultPlan()

    def wrapper(storage: object) -> FaultyStorage:
        return FaultyStorage(storage, plan)  # type: ignore[arg-type]

    add_wrapper(wrapper)
    try:
        storage = resolve(tmp_path)
    finally:
        remove_wrapper(wrapper)
    storage.put("a", [b"x"])
    assert plan.calls == [("put", "a")]
    assert local_path(storage) == tmp_path
    assert isinstance(resolve(tmp_path), LocalStorage)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:qzxwvu/wo+rds@bucket/x",
        "gs://me:qzxwvu@bucket",
        "az://me:qzx@wvu@container/x",
        "simplecache::ftp://me:qzxwvu@host/x",
        "sftp://me:qzx/wvu@host/x",
        "sftp://me:qzx@wvu@host:port/x",
    ],
)
def test_address_with_a_password_in_a_place_where_none_belongs_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolve(url)
    assert "qzx" not in f"{caught.value!r} {caught.value}"
    assert "wvu" not in f"{caught.value!r} {caught.value}"
    assert caught.value.fix


def test_address_that_only_looks_as_if_it_had_a_password_is_taken() -> None:
    for url in ("s3://arn:aws:s3:us-east-1:123456789012:accesspoint/here/run@2", "abfs://container@account/x"):
        assert resolve(url).url == url
    assert RemoteStorage(f"{SCHEME}://host:21/folder@2/x").url == f"{SCHEME}://host:21/folder@2/x"
