"""Imports one part; waits for a part whose last line is not `end`, as it is still being written."""

import os
import sys
import time

path = sys.argv[1]
print(f"importing {path}")
while True:
    with open(path) as file:
        rows = file.read().splitlines()
    if rows[-1:] == ["end"]:
        break
    time.sleep(0.1)
print(f"imported {len(rows) - 1} rows in slot {os.environ['RECONCILE_SLOT']}")
