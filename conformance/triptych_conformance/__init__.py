"""Checks that a model does the same in PyTorch, TensorFlow and Flax; run them on models of your own.

from triptych_conformance import BACKENDS, compare_folder
compare_folder("my-model", "BertModel", {"input_ids": ids, "attention_mask": mask}).assert_within()

A name is imported when it is first asked for: the plugin of pytest says before that which frameworks are meant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych_conformance.gradients import compare_gradients as compare_gradients
    from triptych_conformance.gradients import gradient_parity as gradient_parity
    from triptych_conformance.gradients import gradients_of as gradients_of
    from triptych_conformance.gradients import without_dropout as without_dropout
    from triptych_conformance.parity import BACKENDS as BACKENDS
    from triptych_conformance.parity import Backend as Backend
    from triptych_conformance.parity import Parity as Parity
    from triptych_conformance.parity import compare_folder as compare_folder
    from triptych_conformance.parity import parity_of as parity_of
    from triptych_conformance.tolerance import Comparison as Comparison
    from triptych_conformance.tolerance import assert_close as assert_close
    from triptych_conformance.tolerance import assert_close_in_low_precision as assert_close_in_low_precision
    from triptych_conformance.tolerance import compare as compare
    from triptych_conformance.tolerance import compare_low_precision as compare_low_precision
    from triptych_conformance.tolerance import largest_difference as largest_difference

_HOMES = {
    "gradients": (
        "compare_gradients",
        "gradient_parity",
        "gradients_of",
        "without_dropout",
    ),
    "parity": (
        "BACKENDS",
        "Backend",
        "Parity",
        "compare_folder",
        "parity_of",
    ),
    "tolerance": (
        "Comparison",
        "assert_close",
        "assert_close_in_low_precision",
        "compare",
        "compare_low_precision",
        "largest_difference",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
