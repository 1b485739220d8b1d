"""What transformers 4 had beside its base class of Keras, for code that imports it."""

from __future__ import annotations

from triptych_tf.authors import functions, inputs, layers, loading, losses, mixin, pytorch
from triptych_tf.authors.functions import *  # noqa: F403
from triptych_tf.authors.inputs import *  # noqa: F403
from triptych_tf.authors.layers import *  # noqa: F403
from triptych_tf.authors.loading import *  # noqa: F403
from triptych_tf.authors.losses import *  # noqa: F403
from triptych_tf.authors.mixin import *  # noqa: F403
from triptych_tf.authors.pytorch import *  # noqa: F403

_modules = (functions, inputs, layers, loading, losses, mixin, pytorch)
__all__ = [name for module in _modules for name in module.__all__]
