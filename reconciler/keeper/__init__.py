"""Program 1, the keeper: holds processes, sockets and output; reports what happened; never decides.

| file | subject |
|---|---|
| `__main__` | from the command line's JSON to a running keeper |
| `keeper` | the state machine: actions in, records and events out; touches no world |
| `processes` | processes: started, signalled, reaped, announced, forgotten |
| `records` | what it knows of a process, and of a stranger |
| `notifications` | what processes say of themselves, and who is not heard of in time |
| `successors` | which process goes on when a main process has ended |
| `orphans` | whose the processes are that the keeper did not start |
| `supervisor` | the one controller: started, heard, told, replaced |
| `liveness` | whether the controller still answers, and how soon the next one is started |
| `shutdown` | the end, with the controller or without |
| `borders` | an unexpected exception costs what was just done, and is told |
| `listeners` | the sockets that are held by name, and what becomes of an order to bind |
| `upkeep` | sockets stay as they were bound, and somebody accepts |
| `kernel` | the interface of all that touches the world |

Rooms of it: `linux` (the real kernel layer), `succession` (what one keeper hands to the next), `startup` (what runs
first). It stands on libraries that know no keeper: `output`, `sockets`, `notify`, `spawn` and `system`.
"""
