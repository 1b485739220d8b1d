"""Repositories of the Hub: what is fetched and pushed, and code that comes with a checkpoint.

Imports `checkpoints` and what is below.
"""
