"""What the computation of a family is written in, over `ops`.

Imports `errors` alone, and a config for its type only.
"""
