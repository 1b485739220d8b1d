"""Llama in PyTorch: the public classes of `triptych.families.llama`."""

from typing import Any, ClassVar

from triptych.families import llama
from triptych.nn import rotary
from triptych_pt import ops
from triptych_pt.make import RMSNorm as LlamaRMSNorm  # noqa: F401 (for authors, under its name in transformers)
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["LlamaPreTrainedModel", "LlamaModel", "LlamaForCausalLM", "LlamaForSequenceClassification",
           "LlamaForTokenClassification", "LlamaForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(llama, __name__)


class LlamaPreTrainedModel(PreTrainedModel):
    """Base of the Llama classes."""

    config_class: ClassVar[Any] = llama.LlamaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer"]
    _supports_sdpa = True


class LlamaModel(LlamaPreTrainedModel, part=llama.LlamaModel): ...


class LlamaForCausalLM(LlamaPreTrainedModel, part=llama.LlamaForCausalLM): ...


class LlamaForSequenceClassification(LlamaPreTrainedModel, part=llama.LlamaForSequenceClassification): ...


class LlamaForTokenClassification(LlamaPreTrainedModel, part=llama.LlamaForTokenClassification): ...


class LlamaForQuestionAnswering(LlamaPreTrainedModel, part=llama.LlamaForQuestionAnswering): ...


def rotate_half(x: Any) -> Any:
    """Return `x` [..., D] with its halves exchanged, the second of them negated."""
    return rotary.turned(ops, x)


def apply_rotary_pos_emb(
    q: Any, k: Any, cos: Any, sin: Any, position_ids: Any = None, unsqueeze_dim: int = 1
) -> tuple[Any, Any]:
    """Return queries and keys rotated by cosines and sines [B, Q, D]; `unsqueeze_dim` is the axis of the heads."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return rotary.rotate(ops, q, cos, sin), rotary.rotate(ops, k, cos, sin)


def repeat_kv(hidden_states: Any, n_rep: int) -> Any:
    """Return [B, N * n_rep, K, D] from [B, N, K, D], with each head `n_rep` times in a row."""
    return hidden_states if n_rep == 1 else hidden_states.repeat_interleave(n_rep, dim=1)
