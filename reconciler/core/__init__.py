"""Verbs: pure functions from what is wanted and what is known to what shall be done; no clock, no I/O.

| file | subject |
|---|---|
| `reconciler` | folds observations in, and plans the watchers that they touch |
| `picture` | what is known of the world, cut by watcher |
| `fold` | what each observation changes in it |
| `assume` | what an action changes in it as soon as it is on its way |
| `agenda` | who is to be planned, and when |
| `wakes` | when to look at what again |
| `plan` | what is to be done for one watcher, why, and when to look again |
| `slots` | the slots of one watcher as one plan sees them |
| `conditions` | what a slot does that has a process |
| `watchers` | the plan of one watcher, a service or a job |
| `desired` | how many slots run, and why none does |
| `services` | slots that are kept running; start and stop of the whole |
| `jobs` | slots that run once: firing, outcomes |
| `generations` | what calls for a new generation of a job, and which slots it fires |
| `graph` | who depends on whom: the order of starts and stops |
| `dependencies` | what a slot waits for of other watchers |
| `standing` | how a watcher stands, for those that wait for it |
| `tally` | how many slots are in which state |
| `demand` | services that the first client starts, and that stop when nobody uses them |
| `timetable` | the schedule of a job: which instant has come, and what becomes of it |
| `gates` | what holds a slot back before it is started |
| `starting` | the start of a process, and what it takes over from the one before |
| `running` | what is to be done for a process that runs on |
| `rollout` | which running slots are replaced next |
| `surge` | slots beyond those wanted, which serve while others are replaced |
| `probe_commands` | probes that are commands, run again and again |
| `probes` | what is asked of a process, and what has come of it |
| `probing` | what is asked so that it is known whether a process is ready, and what follows |
| `limits` | which processes are over a limit that the manager watches |
| `notifications` | what follows from what a process says of itself |
| `handover` | the record goes on with another main process |
| `brake` | how many slots of all watchers are being replaced, and who waits for a place |
| `health` | whether a process that is ready goes on to be healthy |
| `recovery` | which unhealthy processes are restarted next |
| `readiness` | when a process counts as ready, and its slot as steady |
| `trial` | the revision in force, as long as it has something to prove |
| `ends` | whose end is the end of everything |
| `shutdown` | the end of everything |
| `verdict` | whether a revision is good: all that it changed stayed up |
| `secrets` | starts wait for values, which are read elsewhere |
| `watched_files` | an edit of watched files is an edit of what runs |
| `stop_order` | who waits for whom when several watchers are stopped |
| `stopping` | how one process is asked to end, and what it leaves behind |
| `settings` | what is in force for a process is brought to what the spec says |
| `hooks` | user code before and after a step |
| `attention` | what plans found of the slots, and which the next one has to look at |
| `backoff` | how long to wait after a death |
| `sockets` | what is bound, and who must wait for it |
| `template` | from a watcher's spec to the launch of one slot, and its hash |
| `intents` | an operator's word, recorded |
| `orders` | what each order of an operator does to one watcher |
| `done` | when a spec of jobs alone is done |
| `goals` | when an order is done |
| `notation` | values in the notation of a spec, without what is secret in them |
| `changes` | what applying a spec would do, and why |
| `impact` | what a change means meanwhile for clients and for other watchers |
| `status` | what status shows |
| `events` | which events a change of a record or socket makes |
"""
