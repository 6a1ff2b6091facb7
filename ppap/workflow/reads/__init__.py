"""The keys of a preset that parts of the work read.

Steps declare the keys of their jobs by these; tests/test_staleness.py records what jobs really read and finds the same.
"""
