"""Runs a Python hook inside of a foreign interpreter: standard library only, Python 3.6 and newer.

| file | subject |
|---|---|
| `__main__` | what is executed, by its path: any Python can read it, and one that is too old says so |
| `runner` | finds the function, calls it with what it takes, and answers with the exit code |
| `client` | what `arbiter` is: a client of the control socket |

None of these names is imported by a hook's own modules: each is loaded by its path under a name of ours.
"""
