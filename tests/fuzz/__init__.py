"""Hostile input: frames at a live control socket, and spec files through the code that reads them.

`make fuzz` runs the long form and prints a line of figures for each; `test_fuzz` runs a short one. Both draw
from a seed, so that what was found can be found again.

| file | subject |
|---|---|
| `frames` | mutated and generated frames, sent to a manager that must go on as if nothing was |
| `specs` | mutated and generated spec files, read in processes with the loader's limits |
| `reader` | such a process |
| `mutations` | how bytes and lines are made worse |
"""
