"""Measures this checkout beside a minimal manager in C, in one run, so that ratios hold where seconds do not.

| file | subject |
|---|---|
| `__main__` | the command line: `python -m bench [--quick]` |
| `floor.c` | the minimal manager: posix_spawn, pidfd, epoll, nothing else |
| `worker.c` | a worker: its first statement takes the monotonic clock |
| `programs` | compiles both into a temporary folder |
| `births` | what the workers tell, read from a pipe without polling |
| `managers` | the floor and `reconcile`, started, asked and stopped alike |
| `measuring` | what is measured, and how often |
| `report` | medians, ratios, targets, the table and results.json |
"""
