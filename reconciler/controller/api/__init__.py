"""The control socket: who may ask, what is answered, and when.

Connections know requests only as what is not answered yet, requests know no methods, and methods no server.

| file | subject |
|---|---|
| `auth` | who may ask for what; denied calls are told, without a flood |
| `connection` | one client's connection, with limits |
| `lines` | work of requests that is done in pieces |
| `parts` | puts the room together |
| `readings` | specs that are read for requests |
| `request` | one request under way |
| `selectors` | names, globs, slots and labels of a request |
| `server` | who is let in, and how many |
| `streams` | what goes on being sent after its answer |
| `turns` | users take turns |
| `waiters` | requests that are answered when what they asked for is done |
"""
