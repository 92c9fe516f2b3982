"""What runs before there is anything to keep.

| file | subject |
|---|---|
| `config` | what the keeper is started with |
| `orders` | waiting for that, where it was begun ahead |
| `instance` | its folders, locks and control socket, and what a former keeper left |
| `limits` | what the keeper takes for itself, and what children get instead |
| `delegation` | which folder of control groups was given to us |
"""
