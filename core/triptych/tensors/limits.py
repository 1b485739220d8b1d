"""What a reader takes of a file at most, of whichever format: a file says how much memory is asked for."""

MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 1_000_000
MAX_RANK = 32
MAX_ELEMENTS = 2**48
MAX_NAME = 4096
