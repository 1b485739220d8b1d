"""The TensorFlow backend of triptych: Keras 3 on TensorFlow."""

import os as _os
import sys as _sys

from triptych.backends import require as _require
from triptych.errors import MissingBackendError as _MissingBackendError
from triptych.names import backend_names as _backend_names

_require("tf")
_os.environ.setdefault("KERAS_BACKEND", "tensorflow")
_there = _sys.modules.get("keras")
_chosen = _os.environ["KERAS_BACKEND"] if _there is None else _there.backend.backend()
if _chosen != "tensorflow":
    raise _MissingBackendError(
        "triptych_tf cannot be imported: Keras runs on another backend.",
        expected="tensorflow",
        received=_chosen,
        remedy="set the environment variable KERAS_BACKEND=tensorflow before Keras is imported",
    )

# TensorFlow Lite imports jax if it finds it (1 s), for a converter of JAX functions; hidden, it does without.
_sys.modules.setdefault("jax", None)  # type: ignore[arg-type]
try:
    import keras as _keras  # noqa: F401
finally:
    if _sys.modules.get("jax", "absent") is None:
        del _sys.modules["jax"]

from triptych_tf.auto import *  # noqa: E402, F403
from triptych_tf.bert import *  # noqa: E402, F403
from triptych_tf.distilbert import *  # noqa: E402, F403
from triptych_tf.electra import *  # noqa: E402, F403
from triptych_tf.encoder_decoder import *  # noqa: E402, F403
from triptych_tf.generation import *  # noqa: E402, F403
from triptych_tf.gpt2 import *  # noqa: E402, F403
from triptych_tf.llama import *  # noqa: E402, F403
from triptych_tf.mistral import *  # noqa: E402, F403
from triptych_tf.modeling import *  # noqa: E402, F403
from triptych_tf.opt import *  # noqa: E402, F403
from triptych_tf.processors import *  # noqa: E402, F403
from triptych_tf.qwen2 import *  # noqa: E402, F403
from triptych_tf.qwen3 import *  # noqa: E402, F403
from triptych_tf.roberta import *  # noqa: E402, F403
from triptych_tf.t5 import *  # noqa: E402, F403

__all__ = _backend_names("tf")  # noqa: PLE0605
