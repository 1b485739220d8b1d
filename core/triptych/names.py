"""The public names, once: each backend has every name of `BACKEND_MODULES` with its own prefix."""

from __future__ import annotations

from collections.abc import Mapping

CORE_MODULES: dict[str, tuple[str, ...]] = {
    "triptych.checkpoints.opening": ("Checkpoint", "open_checkpoint"),
    "triptych.checkpoints.saving": ("save_checkpoint",),
    "triptych.config": ("PretrainedConfig",),
    "triptych.errors": (
        "ArgumentError", "ChangedFileError", "CheckpointError", "ConfigError", "CorruptCheckpointError",
        "HubAccessError", "HubError", "HubNotFoundError", "HubOfflineError", "IncompatibleWeightsError",
        "InconsistentCheckpointError", "LimitError", "MissingBackendError", "MissingFileError", "MissingNameError",
        "RemoteCodeError", "SaveError", "ShapeMismatchError", "TriptychError", "TruncatedCheckpointError",
        "UnreadableConfigError", "UnsafeCheckpointError",
        "UnsupportedFormatError",
    ),
    "triptych.families": ("Family",),
    "triptych.families.bert": ("BertConfig",),
    "triptych.families.distilbert": ("DistilBertConfig",),
    "triptych.families.electra": ("ElectraConfig",),
    "triptych.families.encoder_decoder": ("EncoderDecoderConfig",),
    "triptych.families.gpt2": ("GPT2Config",),
    "triptych.families.llama": ("LlamaConfig",),
    "triptych.families.mistral": ("MistralConfig",),
    "triptych.families.opt": ("OPTConfig",),
    "triptych.families.qwen2": ("Qwen2Config",),
    "triptych.families.qwen3": ("Qwen3Config",),
    "triptych.families.roberta": ("RobertaConfig",),
    "triptych.families.t5": ("T5Config",),
    "triptych.generation": ("GenerationConfig",),
    "triptych.hub.pushing": ("PushToHubMixin",),
    "triptych.modeling.auto": ("AutoConfig",),
    "triptych.tensors.ref": ("TensorRef",),
    "triptych.weights.schema": ("Axis", "Layout", "Schema", "SchemaBuilder", "Weight"),
}  # fmt: skip

AUTO_TASKS: Mapping[str, str] = {
    "AutoModel": "",
    "AutoModelForPreTraining": "PreTraining",
    "AutoModelForCausalLM": "CausalLM",
    "AutoModelForMaskedLM": "MaskedLM",
    "AutoModelForSeq2SeqLM": "Seq2SeqLM",
    "AutoModelForSequenceClassification": "SequenceClassification",
    "AutoModelForTokenClassification": "TokenClassification",
    "AutoModelForQuestionAnswering": "QuestionAnswering",
    "AutoModelForTextEncoding": "TextEncoding",
}
"""Auto class (without the framework's prefix) -> task, a key of `Family.classes`."""


def _classes(stem: str, *heads: str) -> tuple[str, ...]:
    return tuple(stem + name for name in ("PreTrainedModel", "Model", *heads))


_SEQUENCE, _TOKEN, _SPAN = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
_CHOICE = "ForMultipleChoice"
_OF_LLAMA = ("ForCausalLM", _SEQUENCE, _TOKEN, _SPAN)

BACKEND_MODULES: dict[str, tuple[str, ...]] = {
    "modeling": ("PreTrainedModel",),
    "auto": tuple(AUTO_TASKS),
    "bert": _classes(
        "Bert",
        "ForPreTraining",
        "LMHeadModel",
        "ForMaskedLM",
        "ForNextSentencePrediction",
        _SEQUENCE,
        _CHOICE,
        _TOKEN,
        _SPAN,
    ),
    "distilbert": _classes("DistilBert", "ForMaskedLM", _SEQUENCE, _CHOICE, _TOKEN, _SPAN),
    "electra": _classes("Electra", "ForPreTraining", "ForCausalLM", "ForMaskedLM", _SEQUENCE, _CHOICE, _TOKEN, _SPAN),
    "encoder_decoder": ("EncoderDecoderModel",),
    "gpt2": _classes("GPT2", "LMHeadModel", "DoubleHeadsModel", _SEQUENCE, _TOKEN, _SPAN),
    "llama": _classes("Llama", *_OF_LLAMA),
    "mistral": _classes("Mistral", *_OF_LLAMA),
    "opt": _classes("OPT", "ForCausalLM", _SEQUENCE, _SPAN),
    "qwen2": _classes("Qwen2", *_OF_LLAMA),
    "qwen3": _classes("Qwen3", *_OF_LLAMA),
    "roberta": _classes("Roberta", "ForCausalLM", "ForMaskedLM", _SEQUENCE, _CHOICE, _TOKEN, _SPAN),
    "t5": _classes("T5", "ForConditionalGeneration", "EncoderModel", _SEQUENCE, _TOKEN, _SPAN),
}

MODEL_MODULES = tuple(module for module in BACKEND_MODULES if module not in ("modeling", "auto"))

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
