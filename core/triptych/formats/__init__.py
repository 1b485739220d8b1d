"""The formats of weight files: checked, lazy readers and streaming writers. Imports `tensors` and what is below.

Each format has a module or a room, which imports no other format; `opening` opens a file of any.
"""
