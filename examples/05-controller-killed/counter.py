"""Counts, one line for each number."""

import itertools
import time

for number in itertools.count(1):
    print(number)
    time.sleep(0.005)
