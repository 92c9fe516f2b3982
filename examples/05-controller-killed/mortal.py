"""Exits with 7 as soon as its file is newer than at the start."""

import os
import sys
import time

FILE = "mortal.py"
born = os.stat(FILE).st_mtime_ns
print(f"born {os.getpid()}")
while os.stat(FILE).st_mtime_ns == born:
    time.sleep(0.01)
sys.exit(7)
