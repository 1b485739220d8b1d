"""Processors of scores in Flax, where transformers had them."""

from triptych.transformers4 import exports

exports(globals(), {"triptych.utils.logging": "logging="}, also=("triptych_flax.processors",))
