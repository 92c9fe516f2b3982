"""Program 1, the keeper: holds processes, sockets and output; reports what happened; never decides.

| file | subject |
|---|---|
| `__main__` | from the command line's JSON to a running keeper |
| `keeper` | the state machine: actions in, records and events out; touches no world |
| `processes` | processes: started, signalled, reaped, announced, forgotten |
| `records` | what it knows of a process, and of a stranger |
| `orphans` | whose the processes are that the keeper did not start |
| `supervisor` | the one controller: started, heard, told, replaced |
| `liveness` | whether the controller still answers |
| `restart_delay` | how soon the next controller is started |
| `shutdown` | the end, with the controller or without |
| `borders` | an unexpected exception costs what was just done, and is told |
| `kernel` | the interface of all that touches the world |

Rooms of it: `listeners` (sockets), `succession` (what one keeper hands to the next), `spawn` (from a launch to a
process), `system` (asking and telling the system), `linux` (the real kernel layer), `startup` (what runs first).
"""
