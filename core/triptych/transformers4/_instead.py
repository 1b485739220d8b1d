"""What to do about a module or a name of transformers 4 that triptych does not have."""

from __future__ import annotations

import re

from triptych.names import BACKEND_MODULES, MODEL_MODULES

TOKENIZERS = "tokenizers and processors are no part of triptych: use the package tokenizers, or transformers beside it"
_TRAINING = "triptych has no trainer: train as the framework does, with accelerate, or with that of transformers 5"
_OPTIMIZATION = (
    "use keras.optimizers.AdamW with a schedule of keras.optimizers.schedules that has warmup_steps, and its "
    "exclude_from_weight_decay(var_names=['bias', 'LayerNorm'])"
)
_GENERATION = "pass what it was made of to generate: the parameters of GenerationConfig"
_BEAMS = "pass num_beams to generate, which keeps its beams itself"
_CONSTRAINTS = "pass prefix_allowed_tokens_fn to generate, or a LogitsProcessor of your own"
_TF1 = "checkpoints of TensorFlow 1 are not read: convert them with transformers 4 first"
_FAMILY = (
    f"the families are {', '.join(MODEL_MODULES)}; take the model's own file from transformers 4 and run "
    "`triptych port` on it"
)
_BUILT_IN = "|".join(MODEL_MODULES)
_STEMS = [BACKEND_MODULES[module][0].removesuffix("Model").removesuffix("PreTrained") for module in MODEL_MODULES]
_HEAD = r"(PreTrainedModel|LMHeadModel|EncoderModel|Model|For[A-Z]\w+|Config)"
_KNOWN = rf"(TF|Flax)?({'|'.join(_STEMS)}|Auto|Pre[Tt]rained){_HEAD}"

# Each is matched with the whole of "<module>.<name>" and of ".<name>": what begins with a dot is a name of any module.
_REMEDIES = [
    (rf"models\.(?!({_BUILT_IN}|auto)\b)\w+(\..*)?", _FAMILY),
    (r"generation\.beam_search(\..*)?|.\w*Beam(SearchScorer|Scorer|Hypotheses)", _BEAMS),
    (r"generation\.beam_constraints(\..*)?|.\w*Constraint(ListState)?", _CONSTRAINTS),
    (r"generation(\..*)?", _GENERATION),
    (r".\w*(LogitsProcessor|LogitsWarper|StoppingCriteria|Streamer)\w*", _GENERATION),
    (r"(tokenization|feature_extraction)\w*(\..*)?|processing_utils(\..*)?|(image|audio)_\w+(\..*)?", TOKENIZERS),
    (r".\w*(Tokenizer\w*|Processor|FeatureExtractor|BatchEncoding|DataCollator\w*)|data(\..*)?", TOKENIZERS),
    (r"optimization_tf(\..*)?|.(create_optimizer|AdamWeightDecay|WarmUp|GradientAccumulator)", _OPTIMIZATION),
    (r"trainer\w*(\..*)?|training_args\w*(\..*)?|optimization\w*(\..*)?|.\w*Train(er|ing)\w*", _TRAINING),
    (r".(AdamW|Adafactor|get_(\w+_)?schedule\w*|set_seed|HfArgumentParser|EvalPrediction)", _TRAINING),
    (r"pipelines(\..*)?|.(pipeline|\w+Pipeline)", "triptych has no pipelines: call tokenizer and model yourself"),
    (r".load_tf_weights_in_\w+", _TF1),
    (r".\w+_PRETRAINED_(MODEL|CONFIG)_ARCHIVE_(LIST|MAP)", "delete it: transformers emptied these lists too"),
    (r".\w+_(START|INPUTS)_DOCSTRING", "it is a text for docstrings: write it, or delete it"),
    (r"modeling_flash_attention_utils(\..*)?|.\w*[fF]lash_?[aA]ttention\w*",
     "use torch.nn.functional.scaled_dot_product_attention: attn_implementation='sdpa'"),
    (r"integrations(\..*)?|deepspeed(\..*)?", "delete what is for deepspeed, FSDP and other launchers, or guard it"),
    (r"quantizers(\..*)?|.\w*(QuantizationConfig|BitsAndBytesConfig|QuantoConfig|GPTQConfig|AwqConfig)",
     "what there is: triptych.QuantizationConfig, GGUFQuantizationConfig, FineGrainedFP8Config, BitsAndBytesConfig, "
     "TorchAoConfig"),
    (r".(load_backbone|verify_backbone_config_arguments)", "there are no families of vision models: make it yourself"),
    (r"testing_utils(\..*)?", "use pytest's own marks"),
    (r"dynamic_module_utils(\..*)?", "AutoModel.from_pretrained(..., trust_remote_code=True) loads such classes"),
    (r"utils\.fx(\..*)?", "trace with torch.fx or torch.export itself"),
    (r".\w*(Peft|peft)\w*",
     "models have load_adapter, add_adapter and their like themselves; the rest is in the package peft"),
    (r".(\w*QuantizedCache(Config)?|SinkCache|MambaCache|CacheConfig|StaticCacheConfig)",
     "it is not there: use DynamicCache, StaticCache, or one of the other caches of triptych.cache_utils"),
    (rf"\.(?!{_KNOWN})[A-Z]\w+?{_HEAD}", _FAMILY),
]  # fmt: skip


def remedy_for(path: str) -> str:
    """Return what to use in the place of `triptych.<module>.<name>`, or ""."""
    place = path.partition(".")[2]
    name = "." + path.rpartition(".")[2]
    found = (text for rule, text in _REMEDIES if any(re.fullmatch(rule, one) for one in (place, name)))
    return next(found, "")


def is_of_tokenizers(path: str) -> bool:
    """Return whether `triptych.<module>.<name>` would be a tokenizer, a processor or a part of one."""
    return remedy_for(path) == TOKENIZERS
