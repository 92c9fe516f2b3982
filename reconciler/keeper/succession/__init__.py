"""What one keeper hands to the next, in one format: to another process by a file, to our own new code by memory.

| file | subject |
|---|---|
| `notes` | what is written of processes and sockets |
| `adoption` | what a keeper takes over from the one before |
| `handover` | what a keeper hands to its own new code |
"""
