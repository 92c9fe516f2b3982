"""Bytes: frames, codec and messages of both protocols; the only home of msgpack.

| file | subject |
|---|---|
| `journal` | one keeper and the next: a file of lines with checksums |
| `link` | controller and keeper: framed values of `model`, over a socketpair |
| `manager_file` | the note in a state folder whose it is, and where its manager listens |
| `methods` | the table of methods: roles, parameters, results |
| `parameters` | reading a request's parameters |
| `rpc` | clients and controller: MessagePack-RPC with limits, over the control socket |
"""
