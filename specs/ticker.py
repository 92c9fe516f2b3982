"""Prints a line every few seconds, and a last one when it is asked to stop."""

import os
import signal
import sys
import threading

stop = threading.Event()


def on_term(signum: int, frame: object) -> None:
    """Leave the loop at once."""
    stop.set()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_term)
    ticks = 0
    while not stop.wait(float(os.environ["EVERY"])):
        ticks += 1
        print(f"tick {ticks}")
    print("stopped in order")
    sys.exit(0)
