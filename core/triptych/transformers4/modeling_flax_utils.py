"""The base class of Flax and what was beside it, where transformers 4 had it."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_flax.modeling": "FlaxPreTrainedModel",
        "triptych_flax.utilities": """
            ACT2FN append_call_sample_docstring append_replace_return_docstrings
            flax_shard_checkpoint overwrite_call_docstring
        """,
        "triptych.config": "PretrainedConfig",
        "triptych.hub.pushing": "PushToHubMixin",
        "triptych.utils": """
            FLAX_WEIGHTS_INDEX_NAME FLAX_WEIGHTS_NAME SAFE_WEIGHTS_NAME WEIGHTS_NAME
            add_start_docstrings_to_model_forward copy_func
        """,
        "triptych.utils.doc": "add_code_sample_docstrings replace_return_docstrings",
        "triptych.utils.logging": "logging=",
    },
)
