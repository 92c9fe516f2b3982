"""Asking Linux about processes, and telling it; a library of the keeper.

| file | subject |
|---|---|
| `facts` | what it says of a process: values |
| `deaths` | what follows the death of a process |
| `procfs` | asking /proc, and telling processes apart when numbers are reused |
| `pidfds` | processes that are not our children: their signals and their deaths |
| `signals` | to a process, its group, its tree |
| `cgroups` | control groups, where the manager was given some |
| `inotify` | what happens at files and in folders |
| `processors` | how many processors may be used |
| `oom` | which deaths are the kernel's kills for want of memory |
| `mounts` | whether a look at a path may take for ever |
| `wall_clock` | noticing that the wall clock was set |
| `notify` | sd_notify(3) to whoever started the manager |
| `descriptors` | descriptors that children inherit beside those that they were given |
| `reexec` | becoming another program with all that is open |
| `in_place` | a Python program that begins in a process that is there already |
| `naming` | what others see of a process that was forked and executed nothing |
| `shortages` | which errors say only that something is short just now |
"""
