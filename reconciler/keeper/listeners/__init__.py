"""Listening sockets: bound, handed over, kept as they were bound, closed.

| file | subject |
|---|---|
| `listeners` | what is held by name, and what becomes of an order to bind |
| `upkeep` | sockets stay as they were bound, and somebody accepts |
| `sockets` | binding, tuning and closing, and taking back from who uses them |
| `socket_file` | the file of a Unix socket, and the second name by which it comes back |
| `file_watch` | when the file of a socket may have vanished |
| `clients` | when the next client waits at a socket |
| `queues` | how many clients wait at a socket, and how many may |
"""
