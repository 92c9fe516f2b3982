"""A program that says that it lives, once a second, by UDP; SIGUSR1 makes it fall silent."""

import os
import signal
import socket
import sys
import time

signal.signal(signal.SIGUSR1, lambda *_: signal.pause())
pulse = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    pulse.sendto(f"{os.getpid()};{time.clock_gettime(0)}".encode(), ("127.0.0.1", int(sys.argv[1])))
    time.sleep(float(os.environ.get("PULSE_S", "1")))
