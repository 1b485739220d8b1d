"""What the weights of a model are, where they live in each framework, and plans over them, before any is read.

Imports `tensors` and what is below; not `formats`, and no config.
"""
