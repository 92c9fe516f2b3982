"""What people are shown: turns values of the model into blocks of text, and blocks into lines; asks no manager.

| file | subject |
|---|---|
| `layout` | cells, lines and tables of a page, and their widths |
| `painting` | how pages become lines: plain for a pipe, drawn for a terminal |
| `drawing` | pages for a terminal: wrapped and in colours |
| `terminal` | the terminal or pipe that pages are written to |
| `phrases` | what all pages share: ages, times, exits, slots, styles of states |
| `status` | the status: tables of watchers, slots and sockets |
| `status_screen` | what the command status writes: that page, names, or a document |
| `summary` | the state of an instance as a whole: its revision, its problems |
| `causes` | why a watcher is as it is: a chain of causes |
| `why` | such chains as sentences |
| `exits` | what exit codes and signals usually mean |
| `scrolling` | one screen of a status that is longer |
| `stats` | what processes use, as a table and as one screen |
| `plan` | what happens to each watcher and socket, and why |
| `progress` | what is waited for |
| `orders` | the results of an order |
| `doctor` | what this machine allows |
| `mistakes` | mistakes of a spec, with their places |
| `events` | what has happened |
| `logs` | output of processes |
| `runs` | the runs of a job |
| `schedule` | when the clock fires jobs next |
| `revisions` | the history of the spec |
| `documents` | answers for programs: JSON or YAML |
| `yaml_text` | a value as YAML |
"""
