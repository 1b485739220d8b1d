"""What the weights of a model are, where they live in each framework, and plans over them, before any is read.

Imports `tensors` and what is below, and no format: a plan knows arrays and names. A config is an argument, its class a
type.
"""
