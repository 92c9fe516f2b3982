"""Program 1, the keeper: parent of every process, holder of sockets and output; it decides nothing.

It carries out the controller's actions, tells what has become of its records, never blocks and never
polls. When the controller dies it starts another; what runs is not touched by that.

| file | subject |
|---|---|
| `config` | what it is started with |
| `kernel` | the seam: everything that it asks of the world, and what the world reports |
| `keeper` | the state machine: records, sockets, controller, link, the end |
| `linux` | the real kernel: one epoll, children, the link, signals |
| `poller` | descriptors and who is called when they are ready |
| `spawning` | from a launch to a process, on two roads |
| `trees` | whole trees of processes: who belongs, who survived, how to hit no stranger |
| `sockets` | binding, tuning, replacing and closing sockets |
| `logs`, `logs_file` | output: FIFOs, sinks, files that rotate |
"""
