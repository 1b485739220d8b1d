"""What models of PyTorch return, where transformers 4 had it."""

from triptych.transformers4 import exports

exports(globals(), {"triptych.utils.generic": "ModelOutput"}, also=("triptych.nn.outputs", "triptych.nn.more_outputs"))
