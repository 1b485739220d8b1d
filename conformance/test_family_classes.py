"""Every built-in class passes the suite that authors' classes pass, and computes what transformers 5 does; so do those
of configs with odd options, which show that they are heeded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from small_models import CLASSES, PLAIN, VARIANTS, config_of, inputs_of, labels_of
from triptych import PretrainedConfig, TriptychError
from triptych.families import declared_schema
from triptych_conformance import compare
from triptych_conformance.suite import AgreementTests, ForwardTests, GreedyTests, ModelTests
from triptych_conformance.suite.base import Inputs, head_mask
from triptych_conformance.suite.subject import Subject

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


PREFIXES = {"pt": "", "tf": "TF", "flax": "Flax"}
GENERATE = ("CausalLM", "LMHeadModel", "ConditionalGeneration")
ENCODERS = ("bert", "electra", "roberta")
NO_DROPOUT = ("llama", "mistral", "qwen2", "qwen3")


class _Variant(_Small):
    """A config with odd options."""

    variant = ""

    def test_options_change_what_is_computed(self, subject: Subject) -> None:
        """The plain class has weights of other shapes or reads other inputs, or it computes something else."""
        plain = config_of(VARIANTS[self.variant][0], subject.stem)
        try:
            model, info = subject.fresh(subject.reference, config=plain, output_loading_info=True)
            found = subject.reference.run(model, subject.inputs)
        except TriptychError:
            return
        expected = subject.outputs(subject.reference)
        differs = [name for name in found if compare(found[name], expected[name], subject.mask).fraction > 100]
        assert info["missing_keys"] or differs


def lacks_of(variant: str, stem: str) -> dict[str, str]:
    """Return what a class is without, as `ModelTests` has it."""
    kind, config = VARIANTS[variant][0], config_of(variant, stem)
    lacks = {"buffers": "positions are counted in the call"}
    if not stem.endswith(GENERATE):
        lacks["generation"] = "it writes no text"
    elif kind in ENCODERS and not config.is_decoder:
        lacks |= {"cache": "each token sees those after it", "init_cache": "it has no cache"}
    if not labels_of(stem, config, inputs_of(stem, config)):
        lacks["loss"] = "it has no head"
    schema = declared_schema(config, stem)
    if not any(weight.tied_to for weight in schema.values()):
        lacks["ties"] = "it has no head that writes words, or one with weights of its own"
    if not schema.base_prefix:
        lacks["base"] = "its names are those of T5Model, which has no prefix"
    if kind in NO_DROPOUT and not stem.endswith("TokenClassification"):
        lacks["dropout"] = lacks["seeded_dropout"] = "as the family was trained"
    return lacks


def gaps_of(variant: str, stem: str) -> dict[str, str]:
    """Return what transformers does too, and the suite asks to be otherwise."""
    kind = VARIANTS[variant][0]
    if (variant, stem) == ("llama, dynamic", "LlamaForCausalLM"):
        reason = "keys stay as they were turned when the text was shorter"
        return {"test_tokens_are_the_likeliest_of_a_call": reason, "test_a_cache_changes_nothing": reason}
    decoder = kind not in ("bert", "distilbert", "electra", "roberta", "t5")
    if stem.endswith("DoubleHeadsModel") or (decoder and stem.endswith("SequenceClassification")):
        reason = "it reads the last token whose id is not pad_token_id, whatever the mask says"
        return {"test_padding_changes_nothing": reason}
    return {}


NO_GRADIENT = {"MultipleChoice": "classifier.bias", "DoubleHeadsModel": "multiple_choice_head.summary.bias",
               "QuestionAnswering": "qa_outputs.bias"}  # fmt: skip
"""What a softmax does not see, by the end of the class's name: one number more for each choice, or each token."""


def bases_of(variant: str, stem: str) -> tuple[type, ...]:
    """Return which tests a class passes: all, or with odd options those of what a call computes, and of heads that
    share their backbone with others, whether they agree."""
    if (variant, stem) in PLAIN:
        return _Small, ModelTests
    if stem.endswith(GENERATE) and config_of(variant).is_decoder:
        return _Variant, ModelTests
    return (_Variant, ForwardTests, GreedyTests) if stem.endswith(GENERATE) else (_Variant, AgreementTests)


def suite_for(variant: str, stem: str) -> type:
    kind, bases = VARIANTS[variant][0], bases_of(variant, stem)
    gaps = gaps_of(variant, stem)
    values: dict[str, Any] = {
        "models": {backend: f"triptych:{prefix}{stem}" for backend, prefix in PREFIXES.items()},
        "config": config_of(variant, stem),
        "origin": f"transformers:{stem}",
        "lacks": lacks_of(variant, stem),
        "gaps": {name: reason for name, reason in gaps.items() if any(hasattr(base, name) for base in bases)},
        "no_gradient": [name for end, name in NO_GRADIENT.items() if stem.endswith(end)],
        "variant": variant,
        "__module__": __name__,
    }
    words = re.sub(r"\W+", " ", variant.removeprefix(kind)).title().replace(" ", "")
    return type(f"Test{stem}{words}", bases, values)


for variant, stem in CLASSES:
    made = suite_for(variant, stem)
    globals()[made.__name__] = made


def test_every_class_is_tested() -> None:
    tested = {name for name in globals() if name.startswith("Test")}
    assert len(tested) == len(CLASSES) and {stem for _, stem in PLAIN} <= {name[4:] for name in tested}
