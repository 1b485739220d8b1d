"""The TensorFlow backend of triptych: Keras 3 on TensorFlow."""

import os as _os

from triptych.backends import require as _require
from triptych.errors import MissingBackendError as _MissingBackendError
from triptych.names import backend_names as _backend_names

_require("tf")
_os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras as _keras  # noqa: E402

if _keras.backend.backend() != "tensorflow":
    raise _MissingBackendError(
        "triptych_tf cannot be imported: Keras runs on another backend.",
        expected="tensorflow",
        received=_keras.backend.backend(),
        remedy="set the environment variable KERAS_BACKEND=tensorflow before Keras is imported",
    )

from triptych_tf.auto import *  # noqa: E402, F403
from triptych_tf.bert import *  # noqa: E402, F403
from triptych_tf.modeling import *  # noqa: E402, F403

__all__ = _backend_names("tf")  # noqa: PLE0605
