"""`python -m reconciler.controller CONFIG_JSON [--quick-deaths=N]`, started by the keeper."""

from __future__ import annotations

import gc

gc.disable()  # what is imported and read stays: `Controller.run` enables it when everything is there

import json
import os
import resource
import signal
import socket
import sqlite3
import sys
import traceback
from typing import Final

from reconciler.controller.controller import Controller
from reconciler.controller.output.manager_log import ManagerLog
from reconciler.controller.runtime.borders import said
from reconciler.controller.runtime.config import Config
from reconciler.controller.runtime.keeper_link import LinkClosed
from reconciler.controller.state.schema import NewerState
from reconciler.controller.state.store import Store
from reconciler.model.value import from_plain

SWITCH_S: Final = 0.0005
LAST_WORDS_S: Final = 1.0
"""How long a controller that ends waits for its log to be taken."""
LAST_GOOD_AFTER: Final = 5
"""After so many quick deaths in a row the last good spec is taken: the files may be to blame."""
EXIT_USAGE: Final = 2
EXIT_STATE: Final = 78
"""EX_CONFIG of sysexits.h: starting again will not help until somebody acts."""


def main(argv: list[str]) -> int:
    """Run a controller until its keeper is gone; return its exit code."""
    # The keeper gets the terminal's signals and tells what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # No dump of what holds secrets: one byte is less than any, and what programs that dumps are piped to obey, too.
    resource.setrlimit(resource.RLIMIT_CORE, (min(soft, 1) if soft >= 0 else 1, hard))
    # After each call to the system the loop waits for a thread that computes, for 5 ms by default.
    sys.setswitchinterval(SWITCH_S)
    try:
        _, text, *options = argv
        last_good = takes_last_good(options)
        config: Config = from_plain(Config, json.loads(text))
        link = _inherited("RECONCILE_LINK_FD")
        control = _inherited("RECONCILE_CONTROL_FD")
    except (ValueError, KeyError, OSError) as error:
        print(f"cannot start the controller: {error}; the keeper starts it", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    try:
        store = Store(config.state_dir)
    except NewerState as error:
        print(f"reconcile: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_STATE
    except (OSError, sqlite3.Error) as error:
        place = f"{config.state_dir}/state.db"
        print(f"reconcile: cannot use {place}: {error}; is the folder writable?", file=sys.stderr)  # noqa: T201
        return EXIT_STATE
    log = ManagerLog(config.log_level, config.log_format, config.log_file, config.state_dir)
    try:
        Controller(config, log, store, link, control).run(last_good=last_good)
    except LinkClosed:
        log.write("info", "the keeper is gone, so is the controller")
        code = 0
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        log.write("error", "the controller ends", trace=text, cause=said(error))
        code = 1
    log.flush(LAST_WORDS_S)
    return code


def takes_last_good(options: list[str]) -> bool:
    """Tell whether to begin with the last good spec. Raises `ValueError` for an option that there is not."""
    return sum(int(each.removeprefix("--quick-deaths=")) for each in options) >= LAST_GOOD_AFTER


def _inherited(name: str) -> socket.socket:
    """Return the socket whose descriptor an environment variable names, and hide both from children."""
    descriptor = int(os.environ.pop(name))
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stderr.flush()
    os._exit(code)  # the thread that watches files is in compiled code, and nobody waits for it
