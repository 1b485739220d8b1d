"""Flash attention, where transformers 4 had it: its types, and a refusal in the place of its call."""

from __future__ import annotations

from typing import Any, TypedDict

from triptych.errors import ArgumentError
from triptych.transformers4 import exports


class FlashAttentionKwargs(TypedDict, total=False):
    """Where the texts of a batch without padding begin."""

    cu_seq_lens_q: Any
    cu_seq_lens_k: Any
    max_length_q: int | None
    max_length_k: int | None


def _flash_attention_forward(*args: Any, **kwargs: Any) -> Any:
    """Refuse: the package flash_attn is not called.

    Raises:
        ArgumentError: always.
    """
    raise ArgumentError(
        "Attention by the package flash_attn is no part of triptych.",
        remedy="set attn_implementation='sdpa': PyTorch's scaled_dot_product_attention has such kernels",
    )


exports(globals())
