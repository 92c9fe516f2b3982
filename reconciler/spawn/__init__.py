"""From a launch to a process; a library of the keeper.

| file | subject |
|---|---|
| `roads` | the two roads: posix_spawn and fork |
| `image` | processes of the controller that are forked and execute nothing |
| `nursery` | the thread in which the first of these is taken |
| `standard_input` | what a process reads: nothing, a socket, a file, a terminal |
| `environment` | what stands in the environment, and which programs may be meant |
| `accounts` | users and groups of this machine |
| `launch_errors` | why a process could not be launched, in words |
"""
