"""What this machine allows and what is amiss, for `doctor`: facts are gathered once, then judged by pure functions.

| file | subject |
|---|---|
| `needs` | what the spec asks of the machine |
| `machine` | the facts: files of /proc and /sys, and a few calls |
| `resources` | descriptors, processes, inotify, pipes, memory |
| `platform` | kernel, clock, /proc, user, container |
| `groups` | systemd, and control groups with their limits |
| `places` | the folders of the instance |
| `instance` | what its spec and its running manager say |
"""
