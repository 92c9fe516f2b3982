"""The commands: their options, what they ask of a manager, and how they end.

`main` finds a command by its name in `commands_table` and imports its file only then.

| file | commands |
|---|---|
| `launch` | run, up: become or start a manager |
| `shutdown` | shutdown |
| `upgrade` | upgrade: replace the manager's own code |
| `instances` | ls |
| `spec` | validate |
| `plan` | plan, apply |
| `revisions` | history, diff, rollback |
| `status` | status |
| `why` | why: the causes of what is |
| `stats` | stats, top: what processes use |
| `listing` | list, numprocesses, options, listsockets: one thing each, for scripts |
| `logs` | logs |
| `events` | events |
| `runs` | runs: the ledger of a job |
| `wait` | wait: until watchers are ready, have succeeded, or have stopped |
| `orders` | start, stop, restart, reload, signal, scale, incr, decr, resume, rerun |
| `exec` | exec: a command in the place of a watcher's process |
| `doctor` | doctor: what this machine allows |
| `service` | install-service: a unit for systemd |
| `shell` | shell: the same commands, interactively |
| `about` | explain, schema, completion, version: what needs no manager |

What some of them have in common:

| file | subject |
|---|---|
| `starting` | becomes or starts a manager |
| `waiting` | waits until all is as desired, or orders are carried out |
| `ending` | whom the end of a manager waits for |
| `viewer` | what `up` shows |
| `watching` | status --watch: the whole terminal, and its keys |
| `programs` | where a service finds the programs of a spec |
"""
