"""Nouns: frozen values that every room speaks in; imports nothing of ours, and msgspec alone.

| file | subject |
|---|---|
| `value` | what our values are made of: structs, to and from plain maps and lists |
| `servers` | what is known of servers by the names of their programs |
| `spec` | what the user wants: every field of the language, declared once |
| `units` | durations, sizes, modes, signals, names: how their text reads |
| `address` | where a socket listens |
| `probe` | what the answers of a probe come to |
| `process` | process records, launches and exits |
| `socket` | socket templates and records |
| `job` | generations and runs of one-shot jobs |
| `revision` | what a revision of the spec has to prove, and what came of it |
| `intent` | what an operator asked for, kept until undone |
| `observation` | what happened (past tense): the input of the core |
| `order` | what an order does to one watcher, and when it is done |
| `action` | what shall be done (imperative) |
| `observed` | the picture of the world that observations add up to |
| `change` | what applying a spec would do, and why |
| `event` | what people are told has happened: an entry of `reconcile events` |
| `status` | what people and programs are shown |
| `answer` | what else a manager answers, as its clients read it |
| `finding` | what was found out about the machine |
| `digest` | SHA-256 and BLAKE2 without OpenSSL |
| `hiding` | what is never shown: values with secret names, passwords in commands |
| `errors` | mistakes of users and requests, with place and hint |
| `lightly` | what values are made of where they are only shown |
"""

shows_only = False
"""This process only shows what a manager says: whoever knows that says so before it imports any value."""
