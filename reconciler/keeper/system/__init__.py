"""Asking the system about processes, and telling it.

| file | subject |
|---|---|
| `procfs` | asking /proc, and telling processes apart when numbers are reused |
| `pidfds` | processes that are not our children: their signals and their deaths |
| `signals` | to a process, its group, its tree |
| `cgroups` | control groups, where the manager was given some |
| `notify` | sd_notify(3) to whoever started the manager |
| `own_log` | the keeper's own log, never waited for |
"""
