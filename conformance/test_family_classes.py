"""Every built-in class passes the suite that authors' classes pass: its variants compute what transformers 5 does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from small_models import PLAIN, config_of, inputs_of, labels_of
from triptych import PretrainedConfig
from triptych.families import declared_schema
from triptych_conformance.suite import ModelTests
from triptych_conformance.suite.base import Inputs, head_mask

WITHOUT_DECODER = ("T5EncoderModel", "T5ForTokenClassification")
ENCODER = {0: [1], 1: [0, 2]}
GROUPS = {0: [2, 3], 1: [0, 3, 4], 2: [0, 1, 2, 3, 5]}
"""A whole group; one of every group; all but one head."""


class _Small:
    """The inputs of the small models."""

    def make_inputs(self, config: PretrainedConfig, stem: str) -> Inputs:
        return inputs_of(stem, config)

    def make_heads(self, config: PretrainedConfig, stem: str) -> dict[int, list[int]]:
        if config.model_type == "t5":
            return ENCODER if stem in WITHOUT_DECODER else {**ENCODER, 2: [0], 4: [1, 2], 5: [2], 7: [0, 1]}
        return GROUPS if hasattr(config, "num_key_value_heads") else super().make_heads(config, stem)  # type: ignore[misc]

    def make_head_masks(self, config: PretrainedConfig, stem: str, heads: Mapping[int, Sequence[int]]) -> Inputs:
        if config.model_type != "t5":
            return super().make_head_masks(config, stem, heads)  # type: ignore[misc]
        first = {"head_mask": head_mask(2, 3, ENCODER)}
        if stem in WITHOUT_DECODER:
            return first
        return {**first, "decoder_head_mask": head_mask(3, 3, {0: [0], 2: [1, 2]}),
                "cross_attn_head_mask": head_mask(3, 3, {0: [2], 2: [0, 1]})}  # fmt: skip

    def make_labels(self, config: PretrainedConfig, stem: str, inputs: Inputs) -> Inputs:
        return labels_of(stem, config, inputs)


GENERATE = ("CausalLM", "LMHeadModel", "ConditionalGeneration")
ENCODERS = ("bert", "electra", "roberta")
NO_DROPOUT = ("llama", "mistral", "qwen2", "qwen3")


def lacks_of(kind: str, stem: str) -> dict[str, str]:
    """Return what a class is without, as `ModelTests` has it."""
    lacks = {"buffers": "positions are counted in the call"}
    if not stem.endswith(GENERATE):
        lacks["generation"] = "it writes no text"
    elif kind in ENCODERS:
        lacks |= {"cache": "each token sees those after it", "init_cache": "it has no cache"}
    if not labels_of(stem, config_of(kind, stem), inputs_of(stem, config_of(kind, stem))):
        lacks["loss"] = "it has no head"
    schema = declared_schema(config_of(kind, stem), stem)
    if not any(weight.tied_to for weight in schema.values()):
        lacks["ties"] = "it has no head that writes words, or one with weights of its own"
    if not schema.base_prefix:
        lacks["base"] = "its names are those of T5Model, which has no prefix"
    if kind in NO_DROPOUT and not stem.endswith("TokenClassification"):
        lacks["dropout"] = lacks["seeded_dropout"] = "as the family was trained"
    return lacks


def gaps_of(kind: str, stem: str) -> dict[str, str]:
    """Return what transformers does too, and the suite asks to be otherwise."""
    decoder = kind not in ("bert", "distilbert", "electra", "roberta", "t5")
    if stem.endswith("DoubleHeadsModel") or (decoder and stem.endswith("SequenceClassification")):
        reason = "it reads the last token whose id is not pad_token_id, whatever the mask says"
        return {"test_padding_changes_nothing": reason}
    return {}


NO_GRADIENT = {"MultipleChoice": "classifier.bias", "DoubleHeadsModel": "multiple_choice_head.summary.bias",
               "QuestionAnswering": "qa_outputs.bias"}  # fmt: skip
"""What a softmax does not see, by the end of the class's name: one number more for each choice, or each token."""


def suite_for(base: type, variant: str, kind: str, stem: str) -> type:
    models = {backend: f"triptych:{prefix}{stem}" for backend, prefix in (("pt", ""), ("tf", "TF"), ("flax", "Flax"))}
    values: dict[str, Any] = {"models": models, "config": config_of(variant, stem), "origin": f"transformers:{stem}",
                              "lacks": lacks_of(kind, stem),
                              "gaps": gaps_of(kind, stem),
                              "no_gradient": [name for end, name in NO_GRADIENT.items() if stem.endswith(end)],
                              "__module__": __name__}  # fmt: skip
    words = "".join(word.capitalize() for word in variant.replace(",", "").replace("-", " ").split())
    return type(f"Test{stem}" if base is ModelTests else f"Test{stem}{words}", (_Small, base), values)


for kind, stem in PLAIN:
    made = suite_for(ModelTests, kind, kind, stem)
    globals()[made.__name__] = made
