"""When a schedule fires: from a cron line and a time zone, or a period, to instants; the only home of cronsim.

Imported only where a job has a schedule, by the loader and in a background task of the controller: an instance without
schedules never loads it.

| file | subject |
|---|---|
| `line` | what a cron line may say, and what to write instead |
| `instants` | the instants around a time, and how people read them |
"""
