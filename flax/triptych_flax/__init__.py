"""The Flax backend of triptych."""

from triptych.backends import require as _require
from triptych.names import backend_names as _backend_names

_require("flax")

from triptych_flax.auto import *  # noqa: E402, F403
from triptych_flax.bert import *  # noqa: E402, F403
from triptych_flax.modeling import *  # noqa: E402, F403

__all__ = _backend_names("flax")  # noqa: PLE0605
