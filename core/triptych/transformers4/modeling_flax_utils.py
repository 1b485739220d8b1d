"""The base class of Flax and what was beside it, where transformers 4 had it."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_flax.modeling": "FlaxPreTrainedModel",
        "triptych_flax.activations": "ACT2FN quick_gelu",
        "triptych_flax.utilities": "dtype_byte_size flax_shard_checkpoint",
        "triptych.config": "PretrainedConfig",
        "triptych.hub.pushing": "PushToHubMixin",
        "triptych.utils": """
            FLAX_WEIGHTS_INDEX_NAME FLAX_WEIGHTS_NAME SAFE_WEIGHTS_NAME WEIGHTS_NAME
            add_start_docstrings_to_model_forward copy_func
        """,
        "triptych.utils.logging": "logging=",
        "triptych.utils.doc": """
            add_code_sample_docstrings append_call_sample_docstring append_replace_return_docstrings
            overwrite_call_docstring replace_return_docstrings
        """,
    },
)
