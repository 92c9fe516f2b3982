"""Bytes from disk, within limits, as text with places.

Only regular files are read, opened without blocking, so that a FIFO or a device among the spec files
is a mistake and not a hang. Everything read is remembered with its digest: the controller compares
these to know whether anything changed.
"""

from __future__ import annotations

import os
import re
import stat
from functools import cached_property
from typing import Final

from reconciler.model.digest import sha256
from reconciler.model.errors import SpecError
from reconciler.model.value import Part, Struct, field
from reconciler.specfile.trust import HINT, Trust

MAX_FILE_BYTES: Final = 4 * 2**20
MAX_SPEC_BYTES: Final = 32 * 2**20

_LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_EXCERPT_WIDTH: Final = 120


class FileRead(Struct, frozen=True):
    """A file that was read: sha256 in hex, and its size in bytes."""

    digest: str
    size: int


class SourceText(Part, dict=True):
    """The text of one file. Not slotted: its lines are split when the first mistake needs them."""

    path: str
    text: str

    @property
    def folder(self) -> str:
        """Return the folder of the file."""
        return os.path.dirname(self.path)

    @cached_property
    def lines(self) -> list[str]:
        """Return the lines, broken where YAML breaks them."""
        return _LINE_BREAK.split(self.text)


class Reader(Part):
    """Reads files and remembers them; the one place that knows how much was read.

    Root refuses what others may write, unless `allow_writable`; anybody else is warned.
    """

    files: dict[str, FileRead] = field(default_factory=dict)
    allow_writable: bool = False
    warnings: list[SpecError] = field(default_factory=list)
    trust: Trust = field(default_factory=Trust)
    _total: int = 0

    def read(self, path: str) -> SourceText | SpecError:
        """Return the text of a file, or the mistake that keeps it from being read."""
        if not is_unicode(path):
            shown = path.encode(errors="backslashreplace").decode()
            return SpecError(shown, 0, 0, "", "cannot read the file: its path is not UTF-8 text")
        distrusted = self.distrusted(path)
        if distrusted is not None:
            return distrusted
        try:
            data = self._bytes(path)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            return SpecError(path, 0, 0, "", f"cannot read the file: {cause}")
        except ValueError as error:
            return SpecError(path, 0, 0, "", f"cannot read the file: {error}")
        return text_of(path, data)

    def distrusted(self, path: str, *, lists_it: bool = False) -> SpecError | None:
        """Return why root must not believe what stands in a file or folder; others are only warned."""
        doubt = self.trust.doubt(path, lists_it=lists_it)
        if doubt is None:
            return None
        found = SpecError(path, 0, 0, "", f"cannot trust the spec: {doubt}", HINT)
        if self.trust.uid == 0 and not self.allow_writable:
            return found
        if found not in self.warnings:
            self.warnings.append(found)
        return None

    def _bytes(self, path: str) -> bytes:
        """Return the bytes of a file. Raises `ValueError` with the limit that it breaks, or `OSError`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                msg = "it is not a regular file"
                raise ValueError(msg)
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            msg = f"it is larger than {MAX_FILE_BYTES // 2**20} MiB"
            raise ValueError(msg)
        known = self.files.get(path)
        self._total += len(data) - (known.size if known else 0)
        if self._total > MAX_SPEC_BYTES:
            msg = f"with it the spec is larger than {MAX_SPEC_BYTES // 2**20} MiB"
            raise ValueError(msg)
        self.files[path] = FileRead(sha256(data).hexdigest(), len(data))
        return data


def is_unicode(text: str) -> bool:
    """Tell whether text from the system holds no bytes that could not be decoded (surrogateescape)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(path: str, data: bytes) -> SourceText | SpecError:
    """Return the text of the bytes, which must be UTF-8 without control characters."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}"
        before = data[: error.start].decode("utf-8-sig", "replace")
        return _mistake_after(path, before, message, "save the file as UTF-8")
    match = _CONTROL.search(text)
    if match is None:
        return SourceText(path, text)
    character, before = ord(match[0]), text[: match.start()]
    if character == 0:
        return _mistake_after(path, before, "expected text, found a NUL byte", "")
    message = f"expected text, found the control character U+{character:04X}"
    hint = f'inside double quotes it can be written as "\\x{character:02x}"'
    return _mistake_after(path, before, message, hint)


def _mistake_after(path: str, before: str, message: str, hint: str) -> SpecError:
    lines = SourceText(path, before).lines
    return SpecError(path, len(lines), len(lines[-1]) + 1, "", message, hint)


def excerpt(line: str, column: int) -> str:
    """Return the line, cut to a readable width, with a caret below the column (from 1)."""
    width = len(line.rstrip())
    start = max(0, column - _EXCERPT_WIDTH * 2 // 3) if width > _EXCERPT_WIDTH else 0
    cut = "".join(
        c if c.isprintable() else " " if c == "\t" else "\ufffd"
        for c in line[start : min(width, start + _EXCERPT_WIDTH)]
    )
    return f"{cut}\n{' ' * (column - 1 - start)}^"
