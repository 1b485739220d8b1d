"""Rotary frequencies over PyTorch, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {"triptych_pt.utilities": "ROPE_INIT_FUNCTIONS", "triptych.nn.rotary": "rope_config_validation=check_rope"},
)
