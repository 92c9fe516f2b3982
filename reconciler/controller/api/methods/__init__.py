"""The methods of the control socket, one file a noun.

| file | subject |
|---|---|
| `events` | `events`, `events.follow` |
| `exec` | `exec` |
| `logs` | `logs`, `logs.follow` |
| `manager` | `hello`, `shutdown` |
| `progress` | `apply.follow`, `orders.follow`, `wait.follow`, `stream.cancel` |
| `revisions` | `history`, `diff`, `rollback` |
| `runs` | `runs` |
| `spec` | `plan`, `apply` |
| `stats` | `stats`, `stats.follow` |
| `status` | `status`, `options` |
| `upgrade` | `upgrade` |
| `watchers` | `start`, `stop`, `restart`, `reload`, `signal`, `scale`, `resume`, `rerun` |
"""
