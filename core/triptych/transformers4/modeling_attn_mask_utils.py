"""Attention masks over PyTorch, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_pt.utilities": """
            AttentionMaskConverter _create_4d_causal_attention_mask=create_4d_causal_attention_mask
            _prepare_4d_attention_mask=prepare_4d_attention_mask
            _prepare_4d_attention_mask_for_sdpa=prepare_4d_attention_mask_for_sdpa
            _prepare_4d_causal_attention_mask=prepare_4d_causal_attention_mask
            _prepare_4d_causal_attention_mask_for_sdpa=prepare_4d_causal_attention_mask_for_sdpa
        """,
    },
)
