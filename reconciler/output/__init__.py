"""The files that hold what processes write: where they lie, and how they are reached safely.

| file | subject |
|---|---|
| `places` | opening a log file and its folder, through no link that others may change |
| `characters` | where text may be cut |
"""
