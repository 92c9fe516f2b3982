"""Stands for a migration or a cache warm-up: does its work and ends."""

print("prepared")
