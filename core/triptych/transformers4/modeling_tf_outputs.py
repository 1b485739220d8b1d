"""What models of Keras return, where transformers 4 had it: the classes of all frameworks."""

from triptych.nn.more_outputs import OF_TF
from triptych.transformers4 import exports

exports(
    globals(),
    {"triptych.utils.generic": "ModelOutput"},
    {"triptych.modeling_outputs": " ".join(f"TF{name}={name}" for name in OF_TF)},
)
