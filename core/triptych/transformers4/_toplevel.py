"""Names that transformers 4 had in its top module and triptych has in others, for `from triptych import logging`."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from triptych import transformers4
from triptych.transformers4 import FACADE, exports, missing

exports(
    globals(),
    {
        "triptych.utils.logging": "logging=",
        "triptych.generation.options": "CompileConfig SynthIDTextWatermarkingConfig WatermarkingConfig",
        "triptych.modeling_utils": "AttentionInterface Conv1D SequenceSummary apply_chunking_to_forward prune_layer",
        "triptych.cache_utils": """
            Cache DynamicCache EncoderDecoderCache HybridCache OffloadedCache OffloadedStaticCache SlidingWindowCache
            StaticCache
        """,
        "triptych.keras_callbacks": "KerasMetricCallback PushToHubCallback",
        "triptych.modeling_tf_utils": "TFSequenceSummary TFSharedEmbeddings shape_list",
        "triptych.utils": """
            ADAPTER_SAFE_WEIGHTS_NAME ADAPTER_WEIGHTS_NAME CONFIG_NAME FLAX_WEIGHTS_NAME
            GENERATION_CONFIG_NAME MODEL_CARD_NAME ModelOutput SAFE_WEIGHTS_INDEX_NAME SAFE_WEIGHTS_NAME
            TF2_WEIGHTS_NAME TF_WEIGHTS_NAME TensorType WEIGHTS_INDEX_NAME WEIGHTS_NAME add_end_docstrings
            add_start_docstrings cached_file is_apex_available is_bitsandbytes_available
            is_datasets_available is_faiss_available is_flax_available is_phonemizer_available
            is_psutil_available is_safetensors_available is_scipy_available is_sentencepiece_available
            is_sklearn_available is_tf_available is_timm_available is_tokenizers_available
            is_torch_available is_torch_xla_available is_torchvision_available is_vision_available
            requires_backends
        """,
    },
)


def found(name: str) -> Any:
    """Return what `triptych.<name>` is: a name of the table, or a module of this folder.

    Raises:
        AttributeError: neither.
    """
    if name in transformers4.table(__name__):
        return globals()["__getattr__"](name)
    if name in {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}:
        return importlib.import_module(f"{FACADE}.{name}")
    raise AttributeError(f"module {FACADE!r} has no attribute {name!r}. {missing(f'{FACADE}.{name}')}")
