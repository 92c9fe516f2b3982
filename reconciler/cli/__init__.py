"""PROGRAM 3, the command line, and the client that other programs can use; the only home of click,
rich and prompt_toolkit.

Talks to the manager over the control socket only. Each command imports what it needs and no more. `commands/`
stands on `views/`, what people are shown, on `connection/`, how a manager is found, asked and started, and on
`checks/`, what this machine allows; these do not know each other.

| file | subject |
|---|---|
| `__main__` | the command itself: what takes long to come up is begun first |
| `main` | runs a command, and what click says of its line |
| `commands_table` | which commands there are, and the words of other tools for them |
| `completion` | what may stand next on a command line |
| `options` | options that commands share |
| `session` | what the commands of one call or shell share: which instance, and the connection |
| `errors` | exit codes and messages |
| `version` | which version this is, told before anything else is imported |
| `lines` | which command lines are read without click |
| `quick` | what is done then: a status without msgspec, a start |
| `outcomes` | how a command ends: mistakes become messages and exit codes |
"""
