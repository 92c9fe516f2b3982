"""PROGRAM 2, the controller: the loop around the core; it may die and be replaced at any instant.

One thread decides: it drains events, asks the core, hands its actions to the keeper or the store, and
sleeps in epoll until the core's next instant. What could make it wait has a thread or a process of its
own and reports back over an event descriptor.

Rooms, from below; each uses those below it, and no file of one knows the controller:

| room | duty |
|---|---|
| `runtime/` | what everything runs on |
| `state/` | what must survive the controller |
| `specs/` | the spec in force, its files, history and secrets |
| `output/` | events, status and logs (beside `specs/`) |
| `api/` | the control socket |

| file | subject |
|---|---|
| `__main__` | from the keeper's descriptors to a running controller |
| `controller` | the round: events in, actions out |
| `parts` | puts everything together |
| `keeper_observations` | what the keeper says |
| `actions` | what the core says is handed out |
| `shutdown` | the end of everything |
"""
