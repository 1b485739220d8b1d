"""The PyTorch backend of triptych."""

from triptych.backends import require as _require
from triptych.names import backend_names as _backend_names

_require("pt")

from triptych_pt.auto import *  # noqa: E402, F403
from triptych_pt.bert import *  # noqa: E402, F403
from triptych_pt.modeling import *  # noqa: E402, F403

__all__ = _backend_names("pt")  # noqa: PLE0605
