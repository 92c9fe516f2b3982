"""Gets a page now and then, sends how long that took, and restarts a watcher whose page does not come."""

import argparse
import time
import urllib.request

from metrics import Statsd

from reconciler import Client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("watcher", help="what to restart")
    parser.add_argument("--every", type=float, default=60, help="seconds between two looks")
    parser.add_argument("--timeout", type=float, default=10, help="seconds")
    parser.add_argument("--statsd", default="", help="HOST:PORT of a statsd server")
    args = parser.parse_args()
    statsd = Statsd(args.statsd)
    with Client() as client:
        while True:
            time.sleep(args.every)
            began = time.monotonic()
            try:
                urllib.request.urlopen(args.url, timeout=args.timeout).read()
            except OSError as error:  # no answer, or one of 400 and above
                print(f"{args.url}: {error}", flush=True)
                statsd.count(f"{args.watcher}.http_failed")
                if client.status(args.watcher).watchers[0].state == "Running":
                    client.restart(args.watcher, reason=f"{args.url}: {error}"[:200])
            else:
                statsd.time(f"{args.watcher}.http", time.monotonic() - began)


if __name__ == "__main__":
    main()
