"""Turns spec files into a `Spec`, or into every mistake with its place: the only home of pyyaml.

| file | subject |
|---|---|
| `source` | which files a spec is made of, the name of its instance (imports neither third party) |
| `later` | the files that are read after the spec: of secrets and hooks |
| `trust` | whether somebody else could have written a file |
| `reading` | bytes from disk, within limits |
| `yaml_text` | YAML to nodes with places |
| `shapes` | what the declarations of `model.spec` mean for nodes |
| `merge` | several files, `defaults` |
| `overrides` | what is different on some machines |
| `substitute` | `${...}` |
| `foreign` | variables of other tools |
| `commands` | the words of a command, and what only a shell understands |
| `resolve` | nodes to data |
| `env_files` | NAME=value lines |
| `watchers` | one watcher |
| `values` | data to values, by the declarations |
| `validate` | what does not fit, to mistakes with places |
| `given` | a block as rules look at it |
| `probe_rules` | what concerns probes |
| `rollout_rules` | what concerns rollouts, and how many slots there may be |
| `notify_rules` | what concerns sd_notify, and main processes that hand over |
| `rules` | what concerns more than one field |
| `dependencies` | what watchers wait for |
| `schedules` | when a job is fired by the clock |
| `machine` | what this machine says to it |
| `hints` | near names, and the words of other tools |
| `cures` | what to write instead of a value that does not fit |
| `mistakes` | collects what is wrong, hides secrets |
| `loading` | all of it in order |
| `schema` | the language as JSON Schema |
| `words` | types, defaults and effects of fields in words |
| `reference` | the language as a page, and the explanation of one field |
| `answering` | what the loader is asked and answers, within limits |
| `__main__` | the loader as a child process |
"""
