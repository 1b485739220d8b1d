"""Checkpoints as files, without a model: converted, edited, inspected, compared. Text and tokens.

Imports `modeling` and what is below.
"""
