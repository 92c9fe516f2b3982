"""Campaigns on the real kernel: the manager is killed again and again, and checkers outside of it count losses.

`python -m tests.campaign --controller 1000` kills the controller a thousand times. `arena` is what runs and
what happens meanwhile, `kinds` are what can be killed, `counting` looks at /proc, at what the workers wrote
themselves and at the clients, and never asks the manager what the truth is.
"""
