"""The real kernel layer, composed of the tools of `system`, of sockets and of launches.

| file | subject |
|---|---|
| `kernel` | the interface of `keeper.kernel`, on this machine |
| `loop` | waiting for descriptors, signals and times |
| `children` | processes that we start: made, heard of, reaped |
| `link` | the controller's link |
| `control_socket` | clients that the controller has not let in; the socket opened again where it has gone |
"""
