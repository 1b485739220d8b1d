"""Checks that a model does the same in PyTorch, TensorFlow and Flax; run them on models of your own.

from triptych_conformance import BACKENDS, compare_folder
compare_folder("my-model", "BertModel", {"input_ids": ids, "attention_mask": mask}).assert_within(1e-5)
"""

from triptych_conformance.parity import BACKENDS as BACKENDS
from triptych_conformance.parity import Backend as Backend
from triptych_conformance.parity import Parity as Parity
from triptych_conformance.parity import compare_folder as compare_folder
from triptych_conformance.parity import largest_difference as largest_difference
