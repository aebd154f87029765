"""What errors advise: the words that a person reads first."""

from __future__ import annotations

import errno
import tempfile

import pytest

from ckpt import digests
from ckpt.capture.explain import advice
from ckpt.errors import IdentityError
from ckpt.storage.files import translate


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_store_that_cannot_be_written_says_where_to_put_another(number: int) -> None:
    assert "set CKPT_STORE to a folder that you can write to" in translate(OSError(number, "no"), "create it", "x").fix


def test_open_file_is_never_advised_to_be_appended_to() -> None:
    with tempfile.TemporaryFile("w") as file:
        assert advice(file, "file") == "write with ckpt.output(path), which is cut back on a resume, or one whole file per item in a ckpt.step"


@pytest.mark.parametrize(("value", "said"), [(object(), "an object has"), ((n for n in ()), "a generator has")])
def test_refused_argument_is_named_with_its_article(value: object, said: str) -> None:
    with pytest.raises(IdentityError, match=said):
        digests.digest(value)
