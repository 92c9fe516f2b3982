"""What people are shown: values of the model as blocks of text, and blocks as lines; asks no manager.

| file | subject |
|---|---|
| `layout` | cells, lines and tables of a page, and their widths |
| `painting` | how pages become lines: plain for a pipe, drawn for a terminal |
| `drawing` | how a terminal gets them: wrapped and in colours |
| `terminal` | the terminal or pipe that pages are written to |
| `phrases` | the small words of all pages: ages, times, ends, slots |
| `status` | the status: tables of watchers, slots and sockets |
| `summary` | what is said of an instance as a whole |
| `scrolling` | one screen of a status that is longer |
| `plan` | what happens to each watcher and socket, and why |
| `progress` | what is waited for |
| `orders` | what an order does |
| `mistakes` | mistakes of a spec, with their places |
| `events` | what has happened |
| `logs` | output of processes |
| `runs` | the runs of a job |
| `revisions` | the history of the spec |
| `documents` | answers for programs: JSON or YAML |
| `yaml_text` | a value as YAML |
"""
