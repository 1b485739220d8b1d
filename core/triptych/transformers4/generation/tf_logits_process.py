"""Processors of scores in TensorFlow, where transformers had them."""

from triptych.transformers4 import exports

exports(globals(), {"triptych.utils.logging": "logging="}, also=("triptych_tf.processors",))
