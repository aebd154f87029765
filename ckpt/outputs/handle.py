"""What the program writes to: a file-like object that only appends."""

from __future__ import annotations

import codecs
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from ckpt.errors import OptionError

MODES = ("a", "at", "ab", "w", "wt", "wb")


@dataclass(frozen=True, slots=True)
class Settings:
    """How an output is opened. As for ``open``, but the encoding is UTF-8 wherever the program runs."""

    mode: str = "a"
    encoding: str | None = None
    errors: str | None = None
    newline: str | None = None
    join: bool = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise OptionError(f"mode={self.mode!r} is none of an output's", fix='give "a", "ab", "w" or "wb"')
        if self.binary and (self.encoding, self.errors, self.newline) != (None, None, None):
            raise OptionError("a binary output takes no encoding, errors or newline", fix="leave them out")
        if self.newline not in (None, "", "\n", "\r", "\r\n"):
            raise OptionError(f"newline={self.newline!r} is none", fix=r'give "", "\n", "\r" or "\r\n"')
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError as error:
            raise OptionError(f"there is no encoding {self.encoding!r}", fix='leave it out for "utf-8"') from error

    @property
    def binary(self) -> bool:
        return "b" in self.mode

    @property
    def truncates(self) -> bool:
        return "w" in self.mode

    @property
    def form(self) -> str:
        """What has to stay as it is over all of a file, in words."""
        if self.binary:
            return "bytes"
        line = repr(self.newline if self.newline in ("\r", "\r\n") else "\n")
        return f"encoding {codecs.lookup(self.encoding or 'utf-8').name!r}, newline {line}"

    def values(self) -> list[Any]:
        """The arguments that make equal settings."""
        return [self.mode, self.encoding, self.errors, self.newline, self.join]

    def encoder(self) -> codecs.IncrementalEncoder | None:
        """For text: an encoder in its first state."""
        if self.binary:
            return None
        return codecs.getincrementalencoder(self.encoding or "utf-8")(self.errors or "strict")


class Target(Protocol):
    """Where an ``Output`` puts its bytes."""

    name: str
    settings: Settings
    encoder: codecs.IncrementalEncoder | None
    length: int
    opens: int

    def write(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def closed(self) -> None:
        """The program has closed it."""


class Output:
    """An output file (see ``ckpt.output``). It appends; it cannot be read, and its position cannot be set."""

    __slots__ = ("_newline", "_target", "_utf_8")

    def __init__(self, target: Target) -> None:
        self._target = target
        newline = target.settings.newline
        self._newline = newline if newline in ("\r", "\r\n") else None
        self._utf_8 = target.settings.encoding in (None, "utf-8", "utf8")

    @property
    def name(self) -> str:
        """The path or URL, as it was given."""
        return self._target.name

    @property
    def settings(self) -> Settings:
        """How it was opened."""
        return self._target.settings

    @property
    def mode(self) -> str:
        return self._target.settings.mode

    @property
    def encoding(self) -> str | None:
        return None if self._target.settings.binary else self._target.settings.encoding or "utf-8"

    @property
    def closed(self) -> bool:
        return self._target.opens <= 0

    def write(self, data: Any) -> int:
        """Append text, or bytes in a binary mode; returns their number."""
        target = self._target
        if target.opens <= 0:
            self._check_open()
        encoder = target.encoder
        if encoder is None:
            raw = data if isinstance(data, bytes) else bytes(data)
            target.write(raw)
            return len(raw)
        if not isinstance(data, str):
            raise TypeError(f"write() argument must be str, not {type(data).__name__}")
        text = data.replace("\n", self._newline) if self._newline and "\n" in data else data
        # UTF-8 has no state, and this takes half the time.
        target.write(text.encode("utf-8", encoder.errors) if self._utf_8 else encoder.encode(text))
        return len(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def tell(self) -> int:
        """The length of the file, bytes."""
        self._check_open()
        return self._target.length

    def flush(self) -> None:
        """Hand what is buffered to the system. It is made durable with the next checkpoint."""
        self._check_open()
        self._target.flush()

    def close(self) -> None:
        """What was written stays as it is; the run may open the file again, and goes on at its end."""
        if not self.closed:
            self._target.opens -= 1
            self._target.closed()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def isatty(self) -> bool:
        return False

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError(f"the output file {self.name!r} goes only into the state of its own run")

    def __repr__(self) -> str:
        return f"<ckpt.output {self.name!r} mode={self.mode!r}{' closed' if self.closed else ''}>"

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"I/O operation on closed file {self.name!r}")
