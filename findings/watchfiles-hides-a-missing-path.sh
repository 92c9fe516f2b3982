#!/usr/bin/env bash
# What: watchfiles' option ignore_permission_denied also hides that a path does not exist. The watcher then waits
#       and never reports anything.
# Seen: watchfiles 1.3.0: without the option a missing path is FileNotFoundError; with it there is no error, and a file that is
#       created at that very path later is not reported.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install watchfiles==1.3.0
mkdir there
cat >judge.py <<'PY'
import os
import threading
import time

from watchfiles import watch


def reports(folder, **options):
    """Return whether a file that is written to `folder` is reported within three seconds, or the error's name."""
    stop, seen = threading.Event(), []

    def write():
        time.sleep(1)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "new"), "w") as file:
            file.write("x")
        stop.wait(3)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for changes in watch(folder, stop_event=stop, step=50, rust_timeout=200, yield_on_timeout=True, **options):
            if changes:
                seen.extend(changes)
                stop.set()
    except OSError as error:
        return type(error).__name__
    finally:
        stop.set()
        writer.join()
    return bool(seen)


there, without = reports("there"), reports("missing1")
with_it = reports("missing2", ignore_permission_denied=True)
print(f"a folder that exists: {there}; a missing one: {without}; a missing one with the option: {with_it}")
assert (there, without, with_it) == (True, "FileNotFoundError", False)
PY
venv/bin/python judge.py
echo "as described"
