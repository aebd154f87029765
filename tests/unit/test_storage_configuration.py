"""What fsspec and the providers' own tools read their configuration from works for a job that names none."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, Script, collect
from servers.s3 import S3Server

from ckpt.store import Store

KEY = "3c" * 32
TOTAL = 7919 * 15


def test_endpoint_and_credentials_of_fsspec_and_aws_need_no_storage_options(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job for each way, all at once; without any of them the requests would go to Amazon's own servers."""
    options = {"endpoint_url": s3_server.endpoint, "key": "testing", "secret": "testing"}
    files = {"json": "conf.json", "ini": "conf.ini"}
    for kind, name in files.items():
        (tmp_path / kind).mkdir()
        lines = [f"{option} = {value}" for option, value in options.items()]
        text = json.dumps({"s3": options}) if kind == "json" else "\n".join(["[s3]", *lines, ""])
        (tmp_path / kind / name).write_text(text)
    credentials = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    ways = {
        "FSSPEC_S3_ENDPOINT_URL": {f"FSSPEC_S3_{name.upper()}": value for name, value in options.items()},
        "AWS_ENDPOINT_URL": {"AWS_ENDPOINT_URL": s3_server.endpoint, **credentials},
        "AWS_ENDPOINT_URL_S3": {"AWS_ENDPOINT_URL_S3": s3_server.endpoint, **credentials},
        "a file of JSON": {"FSSPEC_CONFIG_DIR": str(tmp_path / "json")},
        "an ini file": {"FSSPEC_CONFIG_DIR": str(tmp_path / "ini")},
    }
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    clean = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "OPTIONS": "{}"}
    clean |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), "CKPT_KEY": KEY}
    jobs: dict[str, tuple[str, subprocess.Popen[str]]] = {}
    for number, (way, environ) in enumerate(ways.items()):
        url, folder = s3_server.fresh_store_url(), tmp_path / str(number)
        folder.mkdir()
        jobs[way] = url, Script(PROGRAMS / "secretive.py", folder).start(**clean | environ, CKPT_STORE=url)
    for way, (url, process) in jobs.items():
        attempt = collect(process)
        assert attempt.result == TOTAL, f"{way}: {attempt.err}"
        (run,) = Store(url, key=KEY, storage_options=s3_server.storage_options).list()
        assert run.status == "finished", way
