"""Listening sockets: bound, tuned, watched, taken back from who uses them; a library of the keeper.

| file | subject |
|---|---|
| `bound` | what a bound socket is to those who hold it |
| `sockets` | binding, tuning and closing, and taking back from who uses them |
| `socket_file` | the file of a Unix socket, and the second name by which it comes back |
| `watching` | when the next client waits at a socket, or its file may have vanished |
| `acceptance` | whether its clients are accepted |
| `queues` | how many clients wait at a socket, and how many may |
"""
