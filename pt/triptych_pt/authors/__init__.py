"""Classes and functions that transformers 4 had beside its base class of PyTorch; no model of triptych needs them."""
