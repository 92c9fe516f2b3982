"""Where output goes: a terminal with a width and colours, or a pipe that gets plain text.

A live view is a page that is painted over itself. It needs nothing but two escape sequences, and
is not shown on a pipe, which gets plain lines about the same.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Block, clean_lines
from reconciler.cli.views.painting import paint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self, TextIO

DEFAULT_WIDTH: Final = 80
_HIDE_CURSOR: Final = "\x1b[?25l"
_SHOW_CURSOR: Final = "\x1b[?25h"


class Terminal:
    """One output stream: whether it is a terminal, how wide, and whether it gets colours."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.stream = stream
        self.is_pipe = not stream.isatty()
        """Bytes may go there as they are; a terminal that can do nothing (TERM=dumb) is none."""
        self.is_terminal = stream.isatty() and environ.get("TERM") != "dumb"
        # https://no-color.org: present and not empty.
        self.colour = self.is_terminal and not environ.get("NO_COLOR")

    @property
    def width(self) -> int | None:
        """Return the columns of the terminal now, None for a pipe: a page without an edge."""
        return self._size()[0] if self.is_terminal else None

    @property
    def height(self) -> int:
        """Return the lines of the terminal now."""
        return self._size()[1]

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            return DEFAULT_WIDTH, 24
        return size.columns or DEFAULT_WIDTH, size.lines or 24

    def show(self, *blocks: Block) -> None:
        """Write blocks as lines."""
        self.put(
            "".join(line + "\n" for line in paint(blocks, width=self.width, colour=self.colour))
        )

    def write(self, text: str) -> None:
        """Write text, at once; nothing in it can control the terminal."""
        self.put(clean_lines(text))

    def put(self, text: str) -> None:
        """Write text as it is, at once: a page that was painted, or what moves the cursor."""
        self.stream.write(text)
        self.stream.flush()

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are, where the stream has bytes below it: for pipes, never for a terminal."""
        buffer = getattr(self.stream, "buffer", None)
        if buffer is None:
            self.write(data.decode("utf-8", "backslashreplace"))
        else:
            self.stream.flush()
            buffer.write(data)
            buffer.flush()


def stdout() -> Terminal:
    """Return the standard output of now; what cannot be encoded there is escaped."""
    return Terminal(_tolerant(sys.stdout))


def stderr() -> Terminal:
    """Return the standard error of now."""
    return Terminal(_tolerant(sys.stderr))


def is_conversation() -> bool:
    """Tell whether standard input and output are terminals; either may be closed."""
    return all(each is not None and each.isatty() for each in (sys.stdin, sys.stdout))


def nowhere() -> Terminal:
    """Return a stream that nobody sees."""
    return Terminal(io.StringIO(), {})


def _tolerant(stream: TextIO) -> TextIO:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return stream


class Live:
    """A page at the bottom of a terminal that is painted over itself. Shows nothing on a pipe."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._painted = 0

    def __enter__(self) -> Self:
        if self._terminal.is_terminal:
            self._terminal.put(_HIDE_CURSOR)
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal.is_terminal:
            self._terminal.put(_SHOW_CURSOR)

    def show(self, blocks: Iterable[Block]) -> None:
        """Paint the page in place of the last one; what is higher than the terminal is cut."""
        if not self._terminal.is_terminal:
            return
        width, room = self._terminal.width, max(self._terminal.height - 1, 1)
        lines = paint(blocks, width=width, colour=self._terminal.colour)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more lines"]
        self.paint(lines)

    def paint(self, lines: list[str]) -> None:
        """Write lines that are painted already, no more than the terminal has, in place of the last page."""
        self._terminal.put(self._erased() + "".join(f"{line}\n" for line in lines))
        self._painted = len(lines)

    def clear(self) -> None:
        """Erase the page, so that lines can be written in its place."""
        if self._terminal.is_terminal:
            self._terminal.put(self._erased())
        self._painted = 0

    def _erased(self) -> str:
        if not self._painted:
            return ""
        # Up to the first line of the page, then everything below it away.
        return f"\x1b[{self._painted}A\r\x1b[J"
