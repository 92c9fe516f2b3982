"""The real kernel layer: all that the keeper does to this machine and asks of it, but for sockets and launches.

| file | subject |
|---|---|
| `kernel` | the interface of `keeper.kernel`, composed of what is here |
| `loop` | waiting for descriptors, signals and times |
| `children` | processes that we start: made, heard of, reaped |
| `link` | the controller's link |
| `control_socket` | clients that the controller has not let in; the socket opened again where it has gone |
| `procfs` | asking /proc, and telling processes apart when numbers are given anew |
| `pidfds` | processes that are not our children: their signals and their deaths |
| `signals` | to a process, its group, its tree |
| `cgroups` | control groups, where the manager was given some |
| `notify` | sd_notify(3) to whoever started the manager |
| `own_log` | the keeper's own log, never waited for |
"""
