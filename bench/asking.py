"""Asks a manager for the status of all, over its socket, time and again: run by the manager's own Python.

usage: python -m bench.asking KIND ADDRESS COUNT PAUSE_S [WATCHER]

Prints one JSON list: of each answer the milliseconds from the request until it was taken apart. Imports
nothing of the bench, so that it runs in an environment where only that manager is installed.
"""

import json
import sys
import time


def reconcile(address, *names):
    """Return a function that asks `reconcile`."""
    from reconciler import Client

    client = Client("bench", address)
    return lambda: client.status(*names).watchers


def circus(address):
    """Return a function that asks Circus: it knows a state for each watcher, no more."""
    from circus.client import CircusClient

    client = CircusClient(endpoint=address, timeout=30)
    return lambda: client.send_message("status")["statuses"]


def supervisor(address):
    """Return a function that asks supervisor."""
    import xmlrpc.client

    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, serverurl="unix://" + address)
    server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
    return server.supervisor.getAllProcessInfo


def main():
    """Ask, and print how long each answer took."""
    kind, address, count, pause_s, *names = sys.argv[1:]
    ask = {"reconcile": reconcile, "circus": circus, "supervisor": supervisor}[kind](
        address, *names
    )
    took = []
    for _ in range(int(count)):
        began = time.monotonic_ns()
        answer = ask()
        took.append((time.monotonic_ns() - began) / 1e6)
        if not answer:
            sys.exit("an empty answer")
        time.sleep(float(pause_s))
    print(json.dumps(took))


if __name__ == "__main__":
    main()
