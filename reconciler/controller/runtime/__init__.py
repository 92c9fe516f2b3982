"""What everything runs on: what is waited for, background tasks, borders, clocks, the link to the keeper.

| file | subject |
|---|---|
| `accounts` | what users and groups are called, as numbers |
| `borders` | what nobody expected costs one request, not the controller |
| `child` | a child that is asked something, within bounds |
| `clock` | the two clocks |
| `config` | what the controller is started with |
| `file_watch` | the thread that notices changes of files |
| `announced` | what the kernel announces of folders and of the way there |
| `inbox` | what the core is told in the next rounds |
| `keeper_link` | events from and actions to the keeper |
| `lanes` | background tasks, by speed and kind |
| `parts` | puts the room together |
| `reactor` | what the loop waits for |
"""
