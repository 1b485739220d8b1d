"""Checkpoints as files, without a model: converted, edited, inspected, compared.

Imports `modeling` and what is below.
"""
