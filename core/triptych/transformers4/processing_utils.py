"""`transformers.processing_utils`, of which model files take `Unpack` alone."""

from triptych.transformers4 import exports

exports(globals(), {"typing": "Unpack"})
