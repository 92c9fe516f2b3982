"""Deterministic simulation: the real core and the real keeper on a fake kernel, in virtual time.

One seed is one history: `python -m tests.sim --seed 7 --trace`. `world` lets time pass; `machine`, `controller`
(with its disk), `programs` and `people` play their parts; `faults` says what a seed may break; `checkers` judge
by the machine's truth and share no code with what they judge; `bugs` are planted to see that they do.
"""
