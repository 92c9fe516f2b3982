"""The product from outside: the command line is all that these tests speak to.

`stage.py` starts an instance in folders of its own and leaves nothing behind; what a test claims it
reads from /proc, from sockets and from files, with no code of `reconciler`.
"""
