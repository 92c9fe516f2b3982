"""What `reconcile version` says; imports nothing, so that who asks often is answered at once."""

from __future__ import annotations

import sys

ASKED = (["version"], ["--version"], ["-V"], ["-v"])
"""Command lines that ask for it and say nothing else."""


def python() -> str:
    """Return the version of the Python that runs this, as `platform.python_version` does."""
    return sys.version.split()[0]


def text(number: str) -> str:
    """Return the version of reconcile, which is this number, and of the Python that runs it."""
    return f"reconcile {number} (Python {python()})\n"
