"""`transformers.integrations`: what model files ask of launchers, none of which takes a hand in triptych's models."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych.integrations.deepspeed": "is_deepspeed_zero3_enabled",
        "triptych.integrations.fsdp": "is_fsdp_managed_module",
    },
)
