"""Restarts processes that use less than they should, several looks in a row: they hang.

For those that use too much there are `limits: {max_memory, max_cpu, max_count}`.
"""

import argparse
import time
from collections import Counter

from reconciler import Client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("watchers", nargs="+", help="names or globs")
    parser.add_argument("--min-cpu", type=float, default=0, help="percent of one processor")
    parser.add_argument("--min-mem", type=float, default=0, help="MiB")
    parser.add_argument("--max-count", type=int, default=3, help="looks in a row")
    parser.add_argument("--every", type=float, default=60, help="seconds between two looks")
    args = parser.parse_args()
    low: Counter[int] = Counter()
    with Client() as client:
        while True:
            time.sleep(args.every)
            still: Counter[int] = Counter()
            for watcher in client.status(*args.watchers, usage=True).watchers:
                for slot in watcher.slots:
                    cpu, memory = slot.cpu_percent, slot.memory_bytes
                    if slot.pid is None or cpu is None or memory is None:
                        continue
                    if cpu >= args.min_cpu and memory >= args.min_mem * 2**20:
                        continue
                    still[slot.pid] = low[slot.pid] + 1
                    if still[slot.pid] >= args.max_count:
                        reason = f"pid {slot.pid} used {cpu:.1f}% and {memory >> 20} MiB"
                        client.restart(f"{watcher.name}.{slot.slot}", reason=reason)
                        del still[slot.pid]
            low = still


if __name__ == "__main__":
    main()
