"""Compiles the programs in C; they are too small to be shipped as binaries."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


class BenchError(Exception):
    """The measurement cannot be done; the text says why and what to try."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The compiled programs, each told of at the head of its source."""

    floor: Path
    worker: Path
    reader: Path
    writer: Path
    lines: Path


def compile_programs(folder: Path) -> Programs:
    """Compile into `folder`. Raises `BenchError` without a C compiler or when it fails."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        msg = "cannot compile the floor: no C compiler; on Debian and Ubuntu: apt install gcc libc6-dev"
        raise BenchError(msg)
    return Programs(
        **{name: _compile(compiler, folder, name) for name in Programs.__dataclass_fields__}
    )


def _compile(compiler: str, folder: Path, name: str) -> Path:
    source, target = Path(__file__).with_name(f"{name}.c"), folder / name
    failure = ""
    # Static where libc.a is there: its first statement then is as near to its first instruction as can be.
    for link in (["-static"], []):
        done = subprocess.run(
            [compiler, "-O2", "-Wall", *link, "-o", target, source],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return target
        failure = done.stderr
    msg = f"cannot compile {name}.c: {failure.strip()}"
    raise BenchError(msg)
