"""The Flax backend of triptych."""

from triptych.backends import require as _require
from triptych.names import backend_names as _backend_names

_require("flax")

from triptych_flax.auto import *  # noqa: E402, F403
from triptych_flax.bert import *  # noqa: E402, F403
from triptych_flax.distilbert import *  # noqa: E402, F403
from triptych_flax.electra import *  # noqa: E402, F403
from triptych_flax.encoder_decoder import *  # noqa: E402, F403
from triptych_flax.gpt2 import *  # noqa: E402, F403
from triptych_flax.llama import *  # noqa: E402, F403
from triptych_flax.mistral import *  # noqa: E402, F403
from triptych_flax.modeling import *  # noqa: E402, F403
from triptych_flax.opt import *  # noqa: E402, F403
from triptych_flax.processors import *  # noqa: E402, F403
from triptych_flax.qwen2 import *  # noqa: E402, F403
from triptych_flax.qwen3 import *  # noqa: E402, F403
from triptych_flax.roberta import *  # noqa: E402, F403
from triptych_flax.t5 import *  # noqa: E402, F403

__all__ = _backend_names("flax")  # noqa: PLE0605
