"""The PyTorch backend of triptych."""

from triptych.backends import require as _require
from triptych.names import backend_names as _backend_names

_require("pt")

from triptych_pt.auto import *  # noqa: E402, F403
from triptych_pt.bert import *  # noqa: E402, F403
from triptych_pt.distilbert import *  # noqa: E402, F403
from triptych_pt.electra import *  # noqa: E402, F403
from triptych_pt.encoder_decoder import *  # noqa: E402, F403
from triptych_pt.gpt2 import *  # noqa: E402, F403
from triptych_pt.llama import *  # noqa: E402, F403
from triptych_pt.mistral import *  # noqa: E402, F403
from triptych_pt.modeling import *  # noqa: E402, F403
from triptych_pt.opt import *  # noqa: E402, F403
from triptych_pt.processors import *  # noqa: E402, F403
from triptych_pt.qwen2 import *  # noqa: E402, F403
from triptych_pt.qwen3 import *  # noqa: E402, F403
from triptych_pt.roberta import *  # noqa: E402, F403
from triptych_pt.t5 import *  # noqa: E402, F403

__all__ = _backend_names("pt")  # noqa: PLE0605
