"""Tensors that are not read yet, dtypes, arrays and limits. Imports `files` and what is below."""
