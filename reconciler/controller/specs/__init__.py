"""The spec in force: where it comes from, how it comes into force, its history, and its secrets.

| file | subject |
|---|---|
| `accepted` | the files of the spec in force, and whether to believe what they say now |
| `apply` | a spec that was read becomes the one in force |
| `early` | the files are read while they come to rest |
| `files` | saved files are applied by themselves, or held |
| `in_force` | the newest spec that was accepted, and what another would change |
| `loader` | the child process that reads a spec |
| `parts` | puts the room together |
| `repository` | which commit the files were checked out at |
| `revisions` | the history of applied specs |
| `schedules` | the wall clock, and the instants of schedules |
| `watched_files` | files whose change replaces what runs |
| `trees` | how many files look together |
| `secrets` | values that processes get and nobody else sees |
| `snapshot` | what the files look like just now |
| `source` | the source's files are watched, and looked at off the loop |
| `standing` | how the files stand to the spec in force |
| `verdicts` | what follows from a verdict on the revision in force |
"""
