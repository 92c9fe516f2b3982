"""Program 1, the keeper: holds processes, sockets and output; reports what happened; never decides.

| file | subject |
|---|---|
| `__main__` | from the command line's JSON to a running keeper |
| `config` | what the keeper is started with; its folders, locks and control socket |
| `keeper` | the state machine: actions in, records and events out; touches no world |
| `processes` | processes: started, signalled, reaped, announced, forgotten |
| `records` | what it knows of a process, and of a stranger |
| `orphans` | whose the processes are that the keeper did not start |
| `supervisor` | the one controller: started, heard, told, replaced |
| `liveness` | whether the controller still answers |
| `restart_delay` | how soon the next controller is started |
| `shutdown` | the end, with the controller or without |
| `borders` | an unexpected exception costs what was just done, and is told |
| `kernel` | the interface of all that touches the world |
| `linux` | the real kernel: epoll, signals, reaping, the controller's link |
| `calls` | clients that the controller has not let in |
| `own_log` | the keeper's own log, never waited for |
| `notify` | sd_notify(3) to whoever started the manager |
| `cgroups` | control groups, where the manager was given some |
| `procfs` | asking /proc, and telling processes apart when numbers are given anew |
| `pidfds` | processes that are not our children: their signals and their deaths |
| `signals` | to a process, its group, its tree |
| `accounts` | users and groups of this machine |
| `launch_errors` | why a process could not be launched, in words |
| `mounts` | whether a look at a path may take for ever |
| `spawning` | the two roads from a launch to a process |

`listeners` are the sockets, `succession` is what one keeper hands to the next.
"""
