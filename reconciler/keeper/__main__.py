"""From the command line's JSON to a running keeper."""

from __future__ import annotations

import gc

gc.disable()  # what is imported and set up stays for ever: looking it through again and again finds nothing

import contextlib
import os
import sys
from typing import Final

from reconciler.keeper.keeper import Keeper
from reconciler.keeper.linux.kernel import LinuxKernel
from reconciler.keeper.startup.config import KeeperConfig, Refused, with_numbers
from reconciler.keeper.startup.instance import legacy, stand_on_own_descriptors
from reconciler.keeper.startup.orders import awaited
from reconciler.keeper.succession.notes import KEEPER
from reconciler.model.observation import KeeperIntroduced
from reconciler.spawn.image import Image
from reconciler.wire.journal import FORMAT

CONTROLLER: Final = "reconciler.controller"
"""What is forked where it is what we are to start, see `spawn.image`."""


def main(argv: list[str]) -> int:
    """Keep until told to end; return the exit code."""
    if argv[1:2] == ["--reads"]:
        return _reads(int(argv[2]))
    try:
        stand_on_own_descriptors()
        controller = Image(CONTROLLER)
        if argv[1:2] == ["--await"]:
            controller.begin()
            text = awaited(argv[2])
        else:
            text = argv[1]
        config = KeeperConfig.from_json(text)
    except OSError as error:
        return _refuse(f"cannot start a keeper: {_cause(error)}")
    except (IndexError, ValueError) as error:
        return _refuse(f"cannot read the configuration of the keeper: {error}")
    os.umask(config.umask)
    try:
        config = with_numbers(config)
        left = legacy(config)
        kernel = LinuxKernel(config, left, controller)
    except Refused as refused:
        return _refuse(f"cannot start {config.name}: {refused}")
    except OSError as error:
        return _refuse(f"cannot start {config.name}: {_cause(error)}")
    own = left.recalled.entries.get(KEEPER, {"id": os.urandom(8).hex(), "upgrades": 0})
    notifier = kernel.notifier
    introduced = KeeperIntroduced(
        own["id"],
        left.boot_id,
        os.getpid(),
        kernel.now_ns(),
        kernel.containment,
        notifies=notifier.listens,
        upgrades=own["upgrades"],
        format=FORMAT,
        controllers=kernel.controllers,
    )
    try:
        keeper = Keeper(kernel, introduced, watchdog_ns=notifier.watchdog_ns)
    except OSError as error:
        return _refuse(f"cannot start {config.name}: cannot take over what runs: {_cause(error)}")
    if config.ready_fd is not None:
        with contextlib.suppress(OSError):  # whoever waited may have given up
            os.write(config.ready_fd, b"ready\n")
        os.close(config.ready_fd)
    # Nor is it looked through from here on: a child that is forked would copy it page by page.
    gc.freeze()
    gc.enable()
    while True:
        due_ns = keeper.step()
        if keeper.exit_code is not None:
            return keeper.exit_code
        kernel.wait(due_ns)


def _reads(format: int) -> int:
    """Say whether this version can go on with what another one hands over in this format."""
    if format > FORMAT:
        return _refuse(
            f"it goes on with format {FORMAT} at most, the running keeper hands over {format}"
        )
    os.write(1, b"reads %d\n" % format)
    return 0


def _cause(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return place + (error.strerror or str(error)).lower()


def _refuse(text: str) -> int:
    os.write(2, f"{text}\n".encode(errors="backslashreplace"))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
