"""What the controller tells and shows: events, status, log files, and what systemd hears.

| file | subject |
|---|---|
| `clients` | how many clients use what runs on demand |
| `compress` | rotated log files, one at a time, in a helper process |
| `event_log` | whatever happens is told, kept and written here |
| `events` | the newest events, numbered |
| `last_lines` | what each process wrote in its own life |
| `limits` | which processes use more than their watchers allow |
| `log_files` | the end of log files, and what is appended to them |
| `log_places` | where the output of watchers lies, and why there may be none |
| `manager_log` | the manager's own log lines; what comes again and again is counted |
| `parts` | puts the room together |
| `port_holders` | a refused address is explained by who holds it (psutil) |
| `status_board` | how every watcher is, one packed fragment each |
| `systemd` | what is said to systemd, if it listens |
| `usage` | processor time and memory |
"""
