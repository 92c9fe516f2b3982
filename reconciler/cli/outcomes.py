"""How a command ends: whatever went wrong becomes a message and an exit code, here and nowhere else.

A traceback is a defect of ours and never the answer to a mistake of the user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING

from reconciler.cli import errors
from reconciler.cli.views import terminal
from reconciler.cli.views.layout import Block, Cell, Wrapped
from reconciler.model.errors import RequestError, SpecError
from reconciler.model.value import PlainError, from_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def guarded(run: Callable[[], int]) -> int:
    """Run and turn every mistake of the user or the world, but for those of wrong usage, into that."""
    try:
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return errors.INTERRUPTED
    except errors.Ended as error:
        return error.exit_code
    except errors.CommandError as error:
        return fail(error.message, error.hint, error.exit_code)
    except RequestError as error:
        return _request_failed(error)
    except BrokenPipeError:
        # Whoever read our output has gone, as `| head` does.
        _drop_output()
        return errors.FAILED
    except OSError as error:
        _drop_output()
        return fail(f"cannot {_doing(error)}: {(error.strerror or str(error)).lower()}")
    except UnicodeError:
        return fail("cannot read an argument: not valid UTF-8")
    return code


def _drop_output() -> None:
    """Discard what could not be written: Python would try again when it ends, and complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _doing(error: OSError) -> str:
    """Return what could not be done, as far as the error of the system says."""
    if error.filename is not None:
        return f"use {os.fsdecode(error.filename)}"
    if isinstance(error, FileNotFoundError):
        return "find this folder"
    return (
        "write the answer"
        if error.errno in {errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT}
        else "go on"
    )


def _request_failed(error: RequestError) -> int:
    if found := _mistakes(error):
        from reconciler.cli.views.mistakes import show_mistakes

        show_mistakes(found, "; nothing was changed")
        return errors.FAILED
    code = errors.TIMED_OUT if error.code == "timeout" else errors.FAILED
    return fail(error.message, str(error.details.get("hint", "")), code)


def _mistakes(error: RequestError) -> Sequence[SpecError]:
    """Return the mistakes of a spec for which a request failed."""
    found: Sequence[SpecError] = ()
    with contextlib.suppress(PlainError):
        found = from_plain(tuple[SpecError, ...], error.details.get("errors", ()))
    return found


def fail(message: str, hint: str = "", code: int = errors.FAILED) -> int:
    """Write why a command fails, and what to try; return its exit code."""
    page: list[Block] = [Wrapped((Cell("reconcile: ", "bad"), Cell(message)))]
    if hint:
        page.append(Wrapped((Cell("  hint: ", "cyan"), Cell(hint))))
    terminal.stderr().show(*page)
    return code
