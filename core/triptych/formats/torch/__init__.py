"""PyTorch's files (`.bin`), without torch and without unpickling."""
