"""PROGRAM 3, the command line, and the client that other programs can use; the only home of click,
rich and prompt_toolkit.

Talks to the manager over the control socket only. Each command imports what it needs and no more.

| file | subject |
|---|---|
| `__main__` | the command itself: what takes long to come up is begun first |
| `main` | runs a command; how mistakes become messages and exit codes |
| `commands_table` | which commands there are, and the words of other tools for them |
| `look` | status, events, ls |
| `watching` | status --watch: the whole terminal, and its keys |
| `logs` | logs, and how output is shown |
| `desired` | plan, apply |
| `revisions` | history, diff, rollback |
| `operate` | start, stop, restart, reload, signal, scale, rerun, shutdown |
| `upgrade` | upgrade: the manager's own code is replaced |
| `runs` | runs: the ledger of a job |
| `launch` | run, up: becoming or starting a manager |
| `service` | install-service: a unit for systemd |
| `programs` | where a service finds the programs of a spec |
| `viewer` | what `up` shows |
| `offline` | validate, schema, explain, version |
| `completion` | what may stand next on a command line |
| `shell` | the interactive shell |
| `ending` | whom the end of a manager waits for |
| `progress` | waiting until all is as desired |
| `render` | what people are shown, as blocks of text |
| `layout` | tables and lines of a page, and how a pipe gets them: plain |
| `drawing` | how a terminal gets them: wrapped and in colours |
| `terminal` | the terminal or pipe that pages are written to |
| `yaml_text` | a status as YAML |
| `options` | options that commands share |
| `session` | what the commands of one call or shell share: which instance, and the connection |
| `errors` | exit codes and messages |
"""
