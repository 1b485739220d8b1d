"""Functions of attention by name, for authors' layers that look theirs up by `config._attn_implementation`.

They are called as in transformers 4: `function(module, query, key, value, attention_mask, dropout=, scaling=)`, with
[B, N, Q, D], and return ([B, Q, N, D], probabilities or None).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from triptych.modeling.implementations import AttentionInterface

__all__ = ["ALL_ATTENTION_FUNCTIONS", "AttentionInterface", "sdpa_attention_forward"]


def sdpa_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Return [B, Q, N, D] by `torch.nn.functional.scaled_dot_product_attention`, and None for the probabilities.

    Keys and values [B, M, K, D] may have fewer heads. `attention_mask` is added to the scores, [..., K or more];
    without one, texts are causal if `is_causal` (None: if `module.is_causal`, and there is more than one query).
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[-2]]
    if is_causal is None:
        is_causal = query.shape[2] > 1 and getattr(module, "is_causal", True)
    causal = bool(is_causal) and attention_mask is None
    made = F.scaled_dot_product_attention(query, key, value, attention_mask, dropout, causal, scale=scaling)
    return made.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS = AttentionInterface()
AttentionInterface.register("sdpa", sdpa_attention_forward)
