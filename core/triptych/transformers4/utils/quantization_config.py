"""`transformers.utils.quantization_config`: how a load is told to quantise."""

from __future__ import annotations

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych.modeling.quantization_configs": """
            BitsAndBytesConfig FineGrainedFP8Config QuantizationConfigMixin TorchAoConfig
        """,
    },
)
