#!/usr/bin/env bash
# What: after psutil.Process(pid).wait() on a child of ours, subprocess says that the child exited with 0, whatever the exit code was.
# Seen: psutil 7.2.2, Python 3.11.7: a child that exits with 7 and one that is killed are both 0 for Popen.wait(). psutil.wait_procs
#       does the same for each child that it reports as gone.
# Why:  the first to wait takes the status from the kernel; subprocess then finds no such child and falls back to 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install psutil==7.2.2
cat >judge.py <<'PY'
import subprocess
import sys

import psutil

said = []
for words in ("raise SystemExit(7)", "import os; os.kill(os.getpid(), 9)"):
    child = subprocess.Popen([sys.executable, "-c", words])
    seen = psutil.Process(child.pid).wait(30)
    said.append((seen, child.wait()))
child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
gone, alive = psutil.wait_procs([psutil.Process(child.pid)], timeout=30)
said.append((gone[0].returncode, child.wait()))
for by_psutil, by_subprocess in said:
    print(f"psutil says {by_psutil}, subprocess says {by_subprocess}")
assert [int(a) for a, _ in said] == [7, -9, 7]
assert [b for _, b in said] == [0, 0, 0]
PY
venv/bin/python judge.py
echo "as described"
