"""What triptych declares of every built-in class is what transformers has: names, shapes, layouts, ties, epsilons and
defaults. And each kind of mistake in a declaration is found, under the name of what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from small_models import PLAIN, SMALL, config_of, decoder_inputs, random_folder, random_inputs, stems_of
from triptych import Axis, Layout, PretrainedConfig, Schema
from triptych.families import declared_schema, family
from triptych.names import BACKEND_MODULES, MODEL_MODULES
from triptych_conformance import BACKENDS, compare
from witness import (
    Seen,
    assert_none,
    calls_of,
    calls_that_differ,
    declared,
    differences,
    epsilons_of,
    rates_of,
    reference,
    weights_of,
)

PT = BACKENDS[0]
RECORD = json.loads((Path(__file__).parents[1] / "tests/golden/witness_4_48.json").read_text())["cases"]
UNTIED: dict[str, Any] = {"tie_word_embeddings": False}
OF_BERT = [
    {},
    {**UNTIED, "type_vocab_size": 3, "num_labels": 1, "layer_norm_eps": 0.02},
    {"is_decoder": True, "add_cross_attention": True},
]
OF_LLAMA = [
    {},
    {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 0.02},
    {**UNTIED, "hidden_size": 24, "num_key_value_heads": None, "head_dim": None, "num_labels": 1,
     "attention_bias": False, "mlp_bias": False},
]  # fmt: skip
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "bert": OF_BERT,
    "distilbert": [{}, {**UNTIED, "sinusoidal_pos_embds": True, "num_labels": 1}],
    "electra": [*OF_BERT, {"embedding_size": 12}],
    "gpt2": [{}, {"add_cross_attention": True}, {**UNTIED, "n_inner": 7, "layer_norm_epsilon": 0.02, "num_labels": 1}],
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), OF_LLAMA),
    "opt": [
        {},
        {**UNTIED, "word_embed_proj_dim": None, "do_layer_norm_before": False, "enable_bias": False, "num_labels": 1},
        {"_remove_final_layer_norm": True, "layer_norm_elementwise_affine": False},
    ],
    "roberta": OF_BERT,
    "t5": [{}, {"feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 0.02},
           {"feed_forward_proj": "gated-silu", "num_decoder_layers": 1}],
}  # fmt: skip
CASES = [(kind, stem, number) for kind in SMALL for number in range(len(OPTIONS[kind])) for stem in stems_of(kind)]
WITHOUT_POOLER = {"add_pooling_layer": False}


def theirs_of(config: PretrainedConfig, stem: str, **options: Any) -> Any:
    return reference(stem, config.to_json_string(), **options)


def assert_declared(schema: Schema | None, theirs: dict[str, Seen]) -> None:
    assert schema is not None
    assert_none(differences(declared(schema, theirs), theirs))


def test_every_public_class_has_a_case() -> None:
    public = {name for module in MODEL_MODULES for name in BACKEND_MODULES[module]}
    classes = {name for name in public if not name.endswith("PreTrainedModel")}
    assert {stem for _, stem, _ in CASES} == classes - {"EncoderDecoderModel"}  # whose weights are those of two


@pytest.mark.parametrize(("kind", "stem", "number"), CASES)
def test_weights(kind: str, stem: str, number: int) -> None:
    config = config_of(kind, stem, **OPTIONS[kind][number])
    assert_declared(declared_schema(config, stem), weights_of(theirs_of(config, stem)))


@pytest.mark.parametrize(("kind", "stem"), [("bert", "BertModel"), ("roberta", "RobertaModel")])
def test_weights_without_a_pooler(kind: str, stem: str) -> None:
    config = config_of(kind)
    theirs = weights_of(theirs_of(config, stem, **WITHOUT_POOLER))
    assert_declared(declared_schema(config, stem, **WITHOUT_POOLER), theirs)
    assert differences(declared(declared_schema(config, stem), theirs), theirs) == [
        "pooler.dense.weight: transformers does not have it",
        "pooler.dense.bias: transformers does not have it",
    ]


@pytest.mark.parametrize("number", range(len(RECORD)), ids=lambda number: f"{number}-{RECORD[number]['stem']}")
def test_weights_of_transformers_4(number: int) -> None:
    """Those of the untied T5, and of pruned models: see `tests/record_witness.py`."""
    assert_declared(*of_record(RECORD[number]))


def of_record(case: dict[str, Any]) -> tuple[Schema, dict[str, Seen]]:
    """Return what triptych declares, and what transformers 4 had."""
    schema = declared_schema(family(case["model_type"]).config_class(**case["config"]), case["stem"])
    assert schema is not None
    return schema, {name: Seen(**{**seen, "shape": tuple(seen["shape"])}) for name, seen in case["weights"].items()}


@pytest.mark.parametrize(("kind", "stem", "number"), CASES)
def test_epsilons(kind: str, stem: str, number: int) -> None:
    config = config_of(kind, stem, **OPTIONS[kind][number])
    assert_none(differing_epsilons(config, stem))


def differing_epsilons(config: PretrainedConfig, stem: str) -> list[str]:
    import torch

    with torch.device("meta"):
        ours = epsilons_of(PT.cls(stem)(config))
    assert ours
    return differences(ours, epsilons_of(theirs_of(config, stem)))


@pytest.mark.parametrize("given", [True, False], ids=["each its own", "defaults"])
@pytest.mark.parametrize(("kind", "stem"), PLAIN)
def test_rates_of_dropout(kind: str, stem: str, given: bool) -> None:
    """Which field of the config says it, and what it is where none does."""
    import torch

    fields = [name for name in family(kind).config_class().to_dict() if re.search("dropout|pdrop", name)]
    asked = {name: (number + 1) / 32 for number, name in enumerate(fields)} if given else {}
    config = config_of(kind, stem, **asked)
    with torch.device("meta"):
        ours = rates_of(PT.cls(stem)(config))
    theirs = rates_of(theirs_of(config, stem))
    assert_none(differences({name: rate for name, rate in ours.items() if name in theirs}, theirs))


OTHERWISE_WRITTEN = {"id2label", "rope_scaling", "layer_types", "transformers_version"}
"""Fields that transformers 5 has in another form: keys as numbers, the theta among them, one entry for each layer, its
own version."""


@pytest.mark.parametrize("kind", SMALL)
def test_defaults(kind: str) -> None:
    assert_none(differing_defaults(kind))


def differing_defaults(kind: str) -> list[str]:
    import transformers

    theirs = transformers.AutoConfig.for_model(kind).to_dict()
    theirs |= theirs.get("rope_parameters", {})
    ours = family(kind).config_class().to_dict()
    shared = (ours.keys() & theirs.keys()) - OTHERWISE_WRITTEN
    assert len(shared) > 20
    return differences({name: ours[name] for name in shared}, {name: theirs[name] for name in shared})


@pytest.mark.parametrize("kind", SMALL)
def test_other_names_of_fields(kind: str) -> None:
    import transformers

    ours, theirs = (
        cls.attribute_map for cls in (family(kind).config_class, type(transformers.AutoConfig.for_model(kind)))
    )
    assert_none(differences({name: field for name, field in ours.items() if name in theirs}, theirs))


# ---- mistakes, and what is said of them

Edit = Callable[[dict[str, Any]], None]


def changed(name: str, **changes: Any) -> Edit:
    return lambda weights: weights.update({name: replace(weights[name], **changes)})


def turned(name: str) -> Edit:
    return lambda weights: weights.update({name: replace(weights[name], axes=weights[name].axes[::-1])})


def without(name: str) -> Edit:
    return lambda weights: weights.pop(name) and None


def copied(name: str, new: str, axis: int = 0) -> Edit:
    return lambda weights: weights.update({new: replace(weights[name], name=new, axes=weights[name].axes[axis:])})


T5_Q = "encoder.block.1.layer.0.SelfAttention.q.weight"
WRONG_DECLARATIONS: dict[str, tuple[str, str, Edit, str]] = {
    "tied to another": (
        "gpt2", "GPT2LMHeadModel", changed("lm_head.weight", tied_to="transformer.wpe.weight"),
        "lm_head.weight: tied_to transformer.wpe.weight, in transformers transformer.wte.weight"),
    "tie forgotten": (
        "bert", "BertForMaskedLM", changed("cls.predictions.decoder.bias", tied_to=None),
        "cls.predictions.decoder.bias: tied_to None, in transformers cls.predictions.bias"),
    "tie invented": (
        "llama", "LlamaForCausalLM", changed("lm_head.weight", tied_to="model.embed_tokens.weight"),
        "lm_head.weight: tied_to model.embed_tokens.weight, in transformers None"),
    "copies forgotten": (
        "t5", "T5EncoderModel", changed("shared.weight", aliases=()),
        "encoder.embed_tokens.weight: transformers has it"),
    "norm forgotten": (
        "opt", "OPTModel", without("decoder.final_layer_norm.bias"),
        "decoder.final_layer_norm.bias: transformers has it"),
    "axes turned": (
        "t5", "T5EncoderModel", turned(T5_Q), f"{T5_Q}: shape (12, 15), in transformers (15, 12)"),
    "layout of a square": (
        "gpt2", "GPT2Model", changed("h.1.attn.c_proj.weight", layout=Layout.LINEAR),
        "h.1.attn.c_proj.weight: layout linear, in transformers conv1d"),
    "length of an axis": (
        "qwen3", "Qwen3Model", changed("layers.2.self_attn.k_norm.weight", axes=(Axis("kv_heads", 3, block=6),)),
        "layers.2.self_attn.k_norm.weight: shape (18,), in transformers (6,)"),
    "bias forgotten": (
        "qwen2", "Qwen2Model", without("layers.0.self_attn.v_proj.bias"),
        "layers.0.self_attn.v_proj.bias: transformers has it"),
    "bias invented": (
        "mistral", "MistralModel", copied("norm.weight", "norm.bias"), "norm.bias: transformers does not have it"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG_DECLARATIONS)
def test_a_wrong_declaration_is_named(mistake: str) -> None:
    kind, stem, edit, said = WRONG_DECLARATIONS[mistake]
    config = config_of(kind, stem)
    schema = declared_schema(config, stem)
    assert schema is not None
    assert said_of(schema, edit, weights_of(theirs_of(config, stem))) == [said]


def said_of(schema: Schema, edit: Edit, theirs: dict[str, Seen]) -> list[str]:
    edit(weights := dict(schema.weights))
    return differences(declared(replace(schema, weights=weights), theirs), theirs)


SQUARES = {"BertModel": "encoder.layer.1.attention.output.dense.weight", "GPT2Model": "h.1.attn.c_proj.weight"}


@pytest.mark.parametrize("stem", SQUARES)
def test_turned_axes_of_a_square_are_named(stem: str) -> None:
    schema, theirs = of_record(next(case for case in RECORD if case["stem"] == stem))
    shape = theirs[SQUARES[stem]].shape
    said = f"{SQUARES[stem]}: shape {shape[::-1]}, in transformers {shape}"
    assert said_of(schema, turned(SQUARES[stem]), theirs) == [said]


def test_a_wrong_epsilon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as the two are, no output would show it."""
    monkeypatch.setattr(family("distilbert").config_class, "layer_norm_eps", 1e-5)
    said = "distilbert.embeddings.LayerNorm: value 1e-05, in transformers 1e-12"
    assert said in differing_epsilons(config_of("distilbert"), "DistilBertForMaskedLM")


def test_a_wrong_default_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that is saved says every field, so transformers would follow a wrong one."""
    init = family("t5").config_class.__init__
    values = tuple(1e-5 if value == 1e-6 else value for value in init.__defaults__)
    monkeypatch.setattr(init, "__defaults__", values)
    assert differing_defaults("t5") == ["layer_norm_epsilon: value 1e-05, in transformers 1e-06"]


def gelu_is_approximate(patch: pytest.MonkeyPatch) -> None:
    from triptych_pt import ops

    gelu = ops.gelu
    patch.setattr(ops, "gelu", lambda x, approximate: gelu(x, approximate=True))


def epsilon_is_fixed(patch: pytest.MonkeyPatch) -> None:
    from triptych_pt import make

    norm = make.rms_norm
    patch.setattr(make, "rms_norm", lambda owner, width, epsilon: norm(owner, width, 1e-6))


def in_config(kind: str, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(family(kind).config_class, name, value)


def positions_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    from triptych.nn import attention

    patch.setattr(attention, "counted_positions", lambda ops, mask, hidden, cache: attention.positions(ops, hidden) + 1)


WRONG_ARITHMETIC = {
    "activation": (
        "distilbert", "DistilBertModel", gelu_is_approximate, "transformer.layer.0.ffn.lin2: input and output"),
    "activation of the config": (
        "t5, gated-gelu, untied", "T5EncoderModel", in_config("t5", "dense_act_fn", "gelu"),
        "encoder.block.0.layer.1.DenseReluDense.wo: input and output"),
    "epsilon": ("qwen3", "Qwen3Model", epsilon_is_fixed, "layers.0.input_layernorm: output"),
    "scale": (
        "gpt2", "GPT2LMHeadModel", in_config("gpt2", "attention_scale", lambda config, layer: 0.7 if layer else 0.5),
        "transformer.h.1.attn.c_proj: input and output"),
    "positions": (
        "opt", "OPTModel", positions_are_not_counted, "decoder.embed_positions: output"),
    "window": (
        "mistral", "MistralModel", in_config("mistral", "window", lambda config, layer: 4 + (layer == 2)),
        "layers.2.self_attn.o_proj: input and output"),
}  # fmt: skip


def differing_calls(folder: Path, config: PretrainedConfig, stem: str) -> list[str]:
    import transformers

    inputs = {**random_inputs(config), **decoder_inputs(stem, config)}
    theirs = getattr(transformers, stem).from_pretrained(folder, attn_implementation="eager").eval()
    _, expected = calls_of(theirs, lambda: PT.run(theirs, inputs))
    ours = PT.load(stem, folder)
    _, calls = calls_of(ours, lambda: PT.run(ours, inputs))
    return calls_that_differ(calls, expected, lambda *pair: compare(*pair, inputs["attention_mask"]).fraction <= 1)


@pytest.mark.parametrize("mistake", WRONG_ARITHMETIC)
def test_wrong_arithmetic_is_named(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first layer that is said to differ is where it went wrong."""
    kind, stem, patch, said = WRONG_ARITHMETIC[mistake]
    config = config_of(kind, stem)
    folder = random_folder(tmp_path, config, stem)
    assert differing_calls(folder, config, stem) == []
    patch(monkeypatch)
    assert differing_calls(folder, config, stem)[0] == said
