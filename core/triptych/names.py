"""The public names, once: each backend has every name of `BACKEND_MODULES` with its own prefix."""

from __future__ import annotations

CORE_MODULES: dict[str, tuple[str, ...]] = {
    "triptych.auto": ("AutoConfig",),
    "triptych.checkpoint": ("Checkpoint", "open_checkpoint"),
    "triptych.config": ("PretrainedConfig",),
    "triptych.errors": (
        "ArgumentError", "CheckpointError", "ConfigError", "CorruptCheckpointError", "InconsistentCheckpointError",
        "LimitError", "MissingBackendError", "MissingFileError", "SaveError", "ShapeMismatchError", "TriptychError",
        "TruncatedCheckpointError", "UnsafeCheckpointError", "UnsupportedFormatError",
    ),
    "triptych.families.bert": ("BertConfig",),
    "triptych.safetensors_file": ("TensorRef",),
    "triptych.saving": ("save_checkpoint",),
    "triptych.schema": ("Axis", "Layout", "Schema", "SchemaBuilder", "Weight"),
}  # fmt: skip

BACKEND_MODULES: dict[str, tuple[str, ...]] = {
    "modeling": ("PreTrainedModel",),
    "auto": (
        "AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification", "AutoModelForTokenClassification",
        "AutoModelForQuestionAnswering",
    ),
    "bert": (
        "BertPreTrainedModel", "BertModel", "BertForMaskedLM", "BertForSequenceClassification",
        "BertForTokenClassification", "BertForQuestionAnswering",
    ),
}  # fmt: skip

BACKENDS: dict[str, tuple[str, str]] = {
    "pt": ("triptych_pt", ""),
    "tf": ("triptych_tf", "TF"),
    "flax": ("triptych_flax", "Flax"),
}
"""Backend -> import package and class prefix."""

FRAMEWORKS: dict[str, tuple[str, ...]] = {
    "pt": ("torch",),
    "tf": ("tensorflow", "keras"),
    "flax": ("jax", "flax"),
}
"""Backend -> the distributions that it imports."""


def defined_in() -> dict[str, str]:
    """Return public name -> module that defines it."""
    table = {name: module for module, names in CORE_MODULES.items() for name in names}
    for package, prefix in BACKENDS.values():
        for module, names in BACKEND_MODULES.items():
            table |= {prefix + name: f"{package}.{module}" for name in names}
    return table


def backend_names(backend: str) -> list[str]:
    """Return the public names of one backend."""
    prefix = BACKENDS[backend][1]
    return [prefix + name for names in BACKEND_MODULES.values() for name in names]
