"""The formats of weight files: checked, lazy readers and streaming writers. Imports `tensors` and what is below."""
