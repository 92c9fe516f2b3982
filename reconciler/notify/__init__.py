"""What processes say of themselves (sd_notify(3)), and whom they name as main process; a library of the keeper.

| file | subject |
|---|---|
| `messages` | what a datagram says, and what comes of it; touches no world |
| `sockets` | a socket for each process: who has said what, and what came along with it |
| `hearings` | what is known of many processes by that, and who is silent for too long |
| `alarms` | when something of many is due |
| `pid_files` | which process a file names |
"""
