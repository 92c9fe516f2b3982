r"""Measures this checkout beside its peers and a floor in C, in one run, so that ratios hold where seconds do not.

| file | subject |
|---|---|
| `__main__` | the command line: `python -m bench [--quick \| --page \| --flames]` |
| `floor.c`, `reader.c` | the least that a manager can do for processes, and for their output |
| `worker.c`, `writer.c` | what is managed: both tell when they began, by the monotonic clock |
| `lines.c` | whether lines that were written are all there, whole, once |
| `programs` | compiles these into a temporary folder |
| `births` | what the workers tell, read from a pipe without polling |
| `managers`, `peers` | ours and the floor; Circus, supervisor, runit and s6: configured, started, stopped |
| `asking` | asks for the status over a socket, run by each manager's own Python |
| `accounting` | processor time, wake-ups and memory, from the kernel's accounts |
| `lives` | one life: all up, memory, idle, status, respawn, edits, stop |
| `output` | one writer that writes flat out; many that write a line at a time |
| `starts` | the first process of a few, with a warm and a cold file cache; commands beside a Python that does nothing |
| `storms` | many that exit at once; a large spec that is read again while workers crash; slots instead of watchers |
| `deaths` | what a death costs the keeper among few and many, own and adopted |
| `loads` | respawns beside many that write flat out |
| `probes` | slots that are asked over HTTP |
| `graphs` | watchers that depend on each other |
| `samples` | what was measured |
| `reaches` | what shall be reached, by ratios within the run |
| `report` | the tables and results.json |
| `page`, `plots` | docs/performance.md and its pictures, from results.json |
| `flames` | where the time goes, by py-spy |
"""
