"""How a manager is found, asked and started; shows nothing.

| file | subject |
|---|---|
| `client` | a client of a running manager, with a method for each request; also for other programs |
| `transport` | requests and streams over the control socket |
| `locate` | which instance is meant |
| `instances` | where instances are, which ones run, and whose they are |
| `places` | the folders of the platform in which instances live |
| `spec_head` | what a spec says of the place of its instance, without a YAML parser |
| `absence` | why no manager runs where one is meant, and which processes go on without it |
| `loading` | reading a spec without a manager |
| `reader` | the process that reads it |
| `launch` | starting a manager |
| `ahead` | a keeper that is begun before anybody knows what it is to keep |
"""
