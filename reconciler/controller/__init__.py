"""PROGRAM 2, the controller: the loop around the core; it may die and be replaced at any instant.

One thread decides: it drains events, asks the core, hands its actions to the keeper or the store, and
sleeps in epoll until the core's next instant. What could make it wait has a thread or a process of its
own and reports back over an event descriptor.

| file | subject |
|---|---|
| `__main__` | from the keeper's descriptors to a running controller |
| `loop` | the loop, and the one object that the other files act upon |
| `reactor` | what the loop waits for |
| `last_words` | what each process wrote in its own life |
| `link` | events from and actions to the keeper |
| `store` | what must survive the controller: sqlite3, one writer thread |
| `entries` | what is given to the store and what a new controller is given back |
| `tables` | each entry as rows, and the rows as what they mean |
| `history` | the history of applied specs as rows, and reading a content |
| `rows` | sealed rows: what damage cannot pass off as true |
| `schema` | the tables, and how the database is opened |
| `damage` | the state is opened whatever became of it |
| `witness` | a small file that says how many commits there were |
| `files` | saved spec files are applied by themselves |
| `looking` | what those files look like just now |
| `halfwritten` | when a file that became shorter may be believed |
| `watching` | the thread that notices changes of files (watchfiles) |
| `loader` | the child process that reads a spec |
| `secrets` | values that processes get and nobody else sees |
| `reaping` | children are reaped without waiting for them |
| `repeats` | lines of the own log that come again and again are counted |
| `capture` | a command whose output is wanted, within bounds |
| `applying` | a spec that was read becomes the one in force, or is held |
| `revisions` | the history, and what follows from a verdict |
| `server` | connections on the control socket, with limits |
| `access` | who may ask for what |
| `accounts` | what users and groups are called, as numbers |
| `refusals` | those who may not are told of, without a flood |
| `exchange` | one request under way |
| `turns` | users take turns |
| `readings` | specs that are read for requests |
| `parameters` | reading a request's parameters |
| `selection` | names, globs, slots and labels of a request |
| `methods` | reading methods of the control socket |
| `operating` | methods that say what an operator wants |
| `ledger` | what the ledger holds of jobs |
| `repository` | which commit the files were checked out at |
| `revising` | methods about revisions: history, diff, rollback |
| `upgrading` | keeper and controller become another version |
| `waiting` | requests that are answered when what they asked for is done |
| `streams` | events, progress and log lines as they come |
| `status` | what `status` answers, one packed fragment per watcher |
| `news` | the newest events, numbered |
| `event_log` | events on their way to the disk, and back |
| `log_places` | where the output of watchers lies, and why there may be none |
| `logs` | the end of log files, and what is appended to them |
| `compress` | rotated log files, one at a time, in a helper process |
| `usage` | processor time, memory, and who holds a port (psutil) |
| `port_holders` | a refused address is explained by who holds it |
| `lanes` | background tasks, by speed and kind |
| `borders` | what nobody expected costs one request, not the controller |
| `own_log` | the controller's own log lines |
| `notifying` | what is said to systemd, if it listens |
| `clock` | the two clocks |
| `config` | what the controller is started with |
"""
