"""Why a process could not be launched, in words that name the cause and not what was just being done."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from typing import TYPE_CHECKING, Final

from reconciler.model.process import LaunchError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_NUMBER: Final = errno.EINVAL
"""Of an error that the kernel was not asked for."""


class LaunchFailed(Exception):
    """A process could not be made; nothing of it is left."""

    def __init__(self, error: LaunchError) -> None:
        super().__init__(error.message)
        self.error = error


def failed(step: str, error: OSError | str, path: str = "", message: str = "") -> LaunchFailed:
    """Return what to raise when a step failed; an error without a number is an invalid argument."""
    number = _NO_NUMBER if isinstance(error, str) else error.errno or errno.EIO
    name = errno.errorcode.get(number, str(number))
    said = error if isinstance(error, str) else words_of(number)
    if isinstance(error, OSError) and error.strerror not in {None, os.strerror(number), ""}:
        said = error.strerror  # ours says more than the kernel's
    return LaunchFailed(LaunchError(step, name, path, message or said))


@contextlib.contextmanager
def step(name: str, path: str = "", message: str = "") -> Iterator[None]:
    """Take a step of a launch: an error in it is why the process could not be launched. Raises `LaunchFailed`.

    Without a `path` it is that of the error.
    """
    try:
        yield
    except OSError as error:
        raise failed(name, error, path or str(error.filename or ""), message) from None
    except (ValueError, OverflowError) as error:
        raise failed(name, str(error), path, message) from None


def words_of(number: int) -> str:
    """Return what an error means here; a limit is named with its value."""
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"no free descriptor (the manager's limit is {limit})"
    if number == errno.ENFILE:
        return "no free descriptor on this machine (fs.file-max)"
    return os.strerror(number).lower()


def fork_failed(error: OSError) -> LaunchFailed:
    """Return what to raise when there is no process to be had; whose limit that is, only EAGAIN leaves open."""
    if error.errno != errno.EAGAIN:
        return failed("fork", error)
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    own = "" if limit == resource.RLIM_INFINITY else f"the manager's limit is {limit}, "
    text = f"no free process ({own}see also pids.max of its control group, kernel.pid_max)"
    return failed("fork", error, message=text)


def exec_failed(error: OSError, program: str) -> LaunchFailed:
    """Return what to raise when exec failed: a script whose interpreter is missing is said so."""
    if error.errno in {errno.ENOENT, errno.EACCES} and (interpreter := _interpreter(program)):
        what = "does not exist" if error.errno == errno.ENOENT else "cannot be executed"
        if error.errno == errno.ENOENT or os.access(program, os.X_OK):
            return failed("exec", error, program, f"its interpreter {interpreter} {what}")
    if error.errno == errno.ENOEXEC:
        return failed("exec", error, program, "not a program; does its first line lack #!")
    if error.errno == errno.EAGAIN:
        # execve(2): after setuid the user had more processes than its limit allows.
        limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        text = f"the user has more processes than its limit allows (limits.nproc: {limit})"
        return failed("exec", error, program, text)
    return failed("exec", error, program)


def _interpreter(program: str) -> str:
    try:
        fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        line = os.read(fd, 256).partition(b"\n")[0]
    except OSError:
        return ""
    finally:
        os.close(fd)
    words = line.removeprefix(b"#!").split()
    # Any bytes may stand there, and only text can be told.
    return words[0].decode(errors="backslashreplace") if line.startswith(b"#!") and words else ""
