"""The command `reconcile`, also `python -m reconciler.cli`: what takes long to come up is begun first."""

from __future__ import annotations

import sys
from typing import Final

from reconciler.cli import reader

READING: Final = ("run", "up")
"""Commands that become a manager: all that they do waits for the spec to be read."""


def main() -> int:
    """Run one command line and return its exit code."""
    if sys.argv[1:2] and sys.argv[1] in READING:
        reader.begin()
    from reconciler.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
