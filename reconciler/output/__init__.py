"""The files that hold what processes write: where they lie, and how they are reached safely.

| file | subject |
|---|---|
| `places` | opening a log file and its folder, through no link that others may change |
| `rotations` | a log with its rotated files, plain or compressed |
| `stamps` | the time before a line |
| `characters` | where text may be cut |
"""
