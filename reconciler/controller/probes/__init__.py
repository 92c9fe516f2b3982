"""Asks processes whether they are ready and healthy, as the core says, and tells when an answer changes.

All of it goes on in the loop, and nothing of it makes the loop wait: sockets that never block, in an epoll of their
own, a bounded number of them at once, a few in each turn. Names are looked up in a lane.

| file | subject |
|---|---|
| `prober` | who is asked, and when |
| `tally` | what one answer after the other comes to, and what of it is told |
| `exchange` | one question: the connection, what is sent and what comes back |
| `http` | the bytes of a request and of its answer |
| `log_lines` | what is looked for in logs, handed to the process that does |
| `matcher` | that process |
| `names` | the addresses of a host |
"""
