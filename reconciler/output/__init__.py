"""The output of processes: read from them, written to files without a line lost, and found there again.

| file | subject |
|---|---|
| `capture` | the output of all processes |
| `stream` | one of its streams: from a FIFO to a sink |
| `sinks` | the files and the manager's own output, shared by streams |
| `log_file` | a log file: rotation, a full disk, a file moved from outside |
| `manager_output` | the manager's own output, never waited for |
| `log_daemon` | the journal and syslog, a message for each line, never waited for |
| `room` | being told when a descriptor that was full takes more |
| `own_log` | the keeper's own log, never waited for |
| `spool` | output that no death of the keeper loses or doubles |
| `coalescing` | output is read together while little comes |
| `places` | opening a log file and its folder, through no link that others may change |
| `rotations` | a log with its rotated files, plain or compressed |
| `stamps` | the time before a line |
| `characters` | where text may be cut |
| `terminals` | what a terminal would obey, and what it gets instead |
"""
