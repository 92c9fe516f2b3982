"""From a launch to a process.

| file | subject |
|---|---|
| `roads` | the two roads: posix_spawn and fork |
| `environment` | what stands in the environment, and which programs may be meant |
| `accounts` | users and groups of this machine |
| `mounts` | whether a look at a path may take for ever |
| `launch_errors` | why a process could not be launched, in words |
"""
