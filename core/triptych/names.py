"""The public names, once: each backend has every name of `BACKEND_MODULES` with its own prefix."""

from __future__ import annotations

from collections.abc import Mapping

CORE_MODULES: dict[str, tuple[str, ...]] = {
    "triptych.checkpoints.opening": ("Checkpoint", "open_checkpoint"),
    "triptych.checkpoints.saving": ("save_checkpoint",),
    "triptych.adapters.config": ("LoraConfig",),
    "triptych.config": ("PretrainedConfig",),
    "triptych.errors": (
        "ArgumentError", "ChangedFileError", "CheckpointError", "ConfigError", "CorruptCheckpointError",
        "DispatchedModelError", "HubAccessError", "HubError", "HubNotFoundError", "HubOfflineError",
        "IncompatibleWeightsError", "InconsistentCheckpointError", "IntegrityError", "LimitError",
        "MissingBackendError", "MissingFileError", "MissingMethodError", "MissingNameError", "RemoteCodeError",
        "SaveError", "ShapeMismatchError", "TriptychError", "TruncatedCheckpointError", "UnreadableConfigError",
        "UnreadableFileError", "UnsafeCheckpointError", "UnsupportedFormatError",
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
    "triptych.generation.stopping": (
        "ConfidenceCriteria", "EosTokenCriteria", "MaxLengthCriteria", "MaxTimeCriteria", "StopStringCriteria",
        "StoppingCriteria", "StoppingCriteriaList",
    ),
    "triptych.generation.streaming": ("AsyncTextIteratorStreamer", "TextIteratorStreamer", "TextStreamer"),
    "triptych.hub.pushing": ("PushToHubMixin",),
    "triptych.modeling.auto": ("AutoConfig",),
    "triptych.modeling.quantization_configs": (
        "BitsAndBytesConfig", "FineGrainedFP8Config", "GGUFQuantizationConfig", "QuantizationConfig", "TorchAoConfig",
    ),
    "triptych.tensors.ref": ("TensorRef",),
    "triptych.weights.schema": ("Axis", "Layout", "Schema", "SchemaBuilder", "Weight"),
}  # fmt: skip

AUTO_TASKS: Mapping[str, str] = {
    "AutoModel": "",
    "AutoModelForPreTraining": "PreTraining",
    "AutoModelWithLMHead": "LMHead",
    "AutoModelForCausalLM": "CausalLM",
    "AutoModelForMaskedLM": "MaskedLM",
    "AutoModelForSeq2SeqLM": "Seq2SeqLM",
    "AutoModelForSequenceClassification": "SequenceClassification",
    "AutoModelForMultipleChoice": "MultipleChoice",
    "AutoModelForNextSentencePrediction": "NextSentencePrediction",
    "AutoModelForTokenClassification": "TokenClassification",
    "AutoModelForQuestionAnswering": "QuestionAnswering",
    "AutoModelForTextEncoding": "TextEncoding",
    **{
        f"AutoModelFor{task}": task
        for task in (
            "TableQuestionAnswering", "VisualQuestionAnswering", "DocumentQuestionAnswering", "ImageClassification",
            "ZeroShotImageClassification", "ImageSegmentation", "SemanticSegmentation", "UniversalSegmentation",
            "InstanceSegmentation", "ObjectDetection", "ZeroShotObjectDetection", "DepthEstimation",
            "VideoClassification", "Vision2Seq", "ImageTextToText", "ImageToImage", "MaskedImageModeling",
            "MaskGeneration", "KeypointDetection", "AudioClassification", "CTC", "SpeechSeq2Seq",
            "AudioFrameClassification", "AudioXVector", "TextToSpectrogram", "TextToWaveform",
        )
    },
    "AutoBackbone": "Backbone",
}  # fmt: skip
"""Auto class (without the framework's prefix) -> task, a key of `Family.classes`.

The tasks that no family here has are for classes that are registered.
"""

_WORDS = {
    "": "MODEL", "LMHead": "MODEL_WITH_LM_HEAD", "PreTraining": "MODEL_FOR_PRETRAINING",
    "Seq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM", "CTC": "MODEL_FOR_CTC", "Vision2Seq": "MODEL_FOR_VISION_2_SEQ",
    "SpeechSeq2Seq": "MODEL_FOR_SPEECH_SEQ_2_SEQ", "CausalLM": "MODEL_FOR_CAUSAL_LM",
    "MaskedLM": "MODEL_FOR_MASKED_LM", "AudioXVector": "MODEL_FOR_AUDIO_XVECTOR",
}  # fmt: skip


def _constant(task: str) -> str:
    words = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in task)
    return f"{_WORDS.get(task, f'MODEL_FOR{words}')}_MAPPING"


_WITHOUT_CLASS = ("Image", "CausalImageModeling", "Retrieval", "TimeSeriesClassification", "TimeSeriesRegression")
AUTO_MAPPINGS: Mapping[str, str] = {_constant(task): task for task in (*AUTO_TASKS.values(), *_WITHOUT_CLASS)}
"""Table of an auto class, as transformers names it (without the framework's prefix) -> task."""


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
    "generation": ("GenerationMixin",),
    "processors": (
        "LogitsProcessor",
        "LogitsWarper",
        "LogitsProcessorList",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "TemperatureLogitsWarper",
        "RepetitionPenaltyLogitsProcessor",
        "EncoderRepetitionPenaltyLogitsProcessor",
        "TopPLogitsWarper",
        "TopKLogitsWarper",
        "MinPLogitsWarper",
        "TypicalLogitsWarper",
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        "NoRepeatNGramLogitsProcessor",
        "EncoderNoRepeatNGramLogitsProcessor",
        "SequenceBiasLogitsProcessor",
        "NoBadWordsLogitsProcessor",
        "PrefixConstrainedLogitsProcessor",
        "HammingDiversityLogitsProcessor",
        "ForcedBOSTokenLogitsProcessor",
        "ForcedEOSTokenLogitsProcessor",
        "ForceTokensLogitsProcessor",
        "InfNanRemoveLogitsProcessor",
        "ExponentialDecayLengthPenalty",
        "LogitNormalization",
        "SuppressTokensAtBeginLogitsProcessor",
        "SuppressTokensLogitsProcessor",
        "WhisperTimeStampLogitsProcessor",
        "WhisperNoSpeechDetection",
        "ClassifierFreeGuidanceLogitsProcessor",
        "AlternatingCodebooksLogitsProcessor",
        "UnbatchedClassifierFreeGuidanceLogitsProcessor",
        "BarkEosPrioritizerLogitsProcessor",
        "WatermarkLogitsProcessor",
        "SynthIDTextWatermarkLogitsProcessor",
    ),  # fmt: skip
    "qwen2": _classes("Qwen2", *_OF_LLAMA),
    "qwen3": _classes("Qwen3", *_OF_LLAMA),
    "roberta": _classes("Roberta", "ForCausalLM", "ForMaskedLM", _SEQUENCE, _CHOICE, _TOKEN, _SPAN),
    "t5": _classes("T5", "ForConditionalGeneration", "EncoderModel", _SEQUENCE, _TOKEN, _SPAN),
}

_NOT_MODELS = ("modeling", "auto", "generation", "processors")
MODEL_MODULES = tuple(module for module in BACKEND_MODULES if module not in _NOT_MODELS)

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


def tables_in() -> dict[str, str]:
    """Return the name of each table of the auto classes -> the module that has it."""
    table = {"CONFIG_MAPPING": "triptych.modeling.auto", "CONFIG_MAPPING_NAMES": "triptych.modeling.auto"}
    for package, prefix in BACKENDS.values():
        start = f"{prefix.upper()}_" if prefix else ""
        names = [start + name for name in AUTO_MAPPINGS]
        table |= dict.fromkeys([*names, *(f"{name}_NAMES" for name in names)], f"{package}.auto")
    return table


def backend_names(backend: str) -> list[str]:
    """Return the public names of one backend."""
    prefix = BACKENDS[backend][1]
    return [prefix + name for names in BACKEND_MODULES.values() for name in names]
