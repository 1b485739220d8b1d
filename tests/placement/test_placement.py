"""Maps of devices, planned from schemas: the limits hold, blocks stay whole, what shares an array is together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from triptych import families
from triptych.errors import ArgumentError
from triptych.placement import Outline, Plan, device_of, parse_max_memory, plan_placement
from triptych.placement.mapping import check_device_map
from triptych.placement.memory import CPU, DISK, main_device

BERT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
LLAMA = {**BERT, "num_key_value_heads": 1, "tie_word_embeddings": True}
GPT2 = {"n_embd": 16, "n_layer": 4, "n_head": 2, "vocab_size": 50, "n_positions": 32}
OPT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "ffn_dim": 32, "vocab_size": 50,
       "word_embed_proj_dim": 16}  # fmt: skip
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2, "vocab_size": 50}
DISTILBERT = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50}
MODELS = {
    "BertForMaskedLM": ("bert", BERT),
    "RobertaForMaskedLM": ("roberta", BERT),
    "ElectraForPreTraining": ("electra", {**BERT, "embedding_size": 8}),
    "DistilBertForMaskedLM": ("distilbert", DISTILBERT),
    "GPT2LMHeadModel": ("gpt2", GPT2),
    "OPTForCausalLM": ("opt", OPT),
    "LlamaForCausalLM": ("llama", LLAMA),
    "MistralForCausalLM": ("mistral", LLAMA),
    "Qwen3ForCausalLM": ("qwen3", LLAMA),
    "T5ForConditionalGeneration": ("t5", T5),
}


def planned(stem: str, max_memory: dict[Any, Any], device_map: Any = "auto") -> Plan:
    kind, fields = MODELS[stem]
    return plan_placement(families.family(kind).config_class(**fields), stem, parse_max_memory(max_memory), device_map)


def running_bytes(plan: Plan, device: Any) -> int:
    """Return the most that layers kept elsewhere take on `device` while they run."""
    main = main_device(plan.limits)
    away = {main: {CPU, DISK} - {main}, CPU: {DISK}}.get(device, set())
    inside = [unit for unit in plan.outline.units()
              if {device_of(plan.device_map, name) for name in plan.outline.names(unit)} & away]  # fmt: skip
    return max((plan.outline.running_size(unit) for unit in inside), default=0)


@pytest.mark.parametrize("strategy", ["auto", "balanced_low_0", "sequential"])
@pytest.mark.parametrize("stem", MODELS)
def test_no_device_keeps_more_than_it_may(stem: str, strategy: str) -> None:
    total = planned(stem, {}).outline.size("")
    for shares in ({CPU: 1.0}, {CPU: 0.7}, {0: 0.6, CPU: 0.5}, {0: 0.55, 1: 0.5, CPU: 0.3}, {1: 0.9, 0: 0.5}):
        plan = planned(stem, {device: int(share * total) for device, share in shares.items()}, strategy)
        assert sum(plan.by_device.values()) == total
        for device, size in plan.by_device.items():
            limit = plan.limits[device]
            assert limit is None or size + running_bytes(plan, device) <= limit, (device, plan.device_map)
        for path in plan.outline.whole:
            assert len({device_of(plan.device_map, name) for name in plan.outline.names(path)}) == 1
        check_device_map(plan.device_map, plan.outline)


def test_what_fits_is_on_one_device() -> None:
    size = planned("LlamaForCausalLM", {}).outline.size("")
    assert planned("LlamaForCausalLM", {CPU: size}).device_map == {"": CPU}
    assert planned("LlamaForCausalLM", {0: size, CPU: size}).device_map == {"": 0}
    assert planned("LlamaForCausalLM", {}).device_map == {"": DISK}
    assert planned("LlamaForCausalLM", {0: 0, CPU: size}).device_map == {"": CPU}


def test_an_array_is_kept_once_and_used_where_it_is() -> None:
    plan = planned("LlamaForCausalLM", {0: 25_000, 1: 25_000})
    assert plan.device_map["lm_head"] == plan.device_map["model.embed_tokens"] == 0
    assert list(dict.fromkeys(plan.device_map[f"model.layers.{n}"] for n in range(4))) == [0, 1]
    head = planned("BertForMaskedLM", {CPU: 60_000})
    assert {head.device_map[f"cls.predictions.{part}"] for part in ("decoder", "bias")} == {CPU}
    assert head.device_map["cls.predictions.transform"] == DISK


def test_balanced_gives_each_accelerator_about_the_same() -> None:
    size = planned("GPT2LMHeadModel", {}).outline.size("")
    memory = {0: size, 1: size, 2: size}
    even = planned("GPT2LMHeadModel", memory, "balanced").by_device
    assert max(even.values()) - min(even.values()) < size / 3
    assert planned("GPT2LMHeadModel", memory, "balanced_low_0").by_device.get(0, 0) < min(even.values())
    assert planned("GPT2LMHeadModel", memory, "sequential").by_device == {0: size}


def test_t0pp_is_planned_from_its_config() -> None:
    config = families.family("t5").config_class(
        d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu",
        vocab_size=32128, tie_word_embeddings=False,
    )  # fmt: skip
    limits = parse_max_memory({0: "10GB", CPU: "6GB"})
    plan = plan_placement(config, "T5ForConditionalGeneration", limits, dtype=np.dtype(np.float16))
    assert plan.outline.size("") == 22_270_664_704  # 11.1 billion parameters
    assert set(plan.by_device) == {0, CPU, DISK}
    assert plan.device_map["shared"] == 0
    assert sum(row["bytes"] for row in plan.as_dict()["modules"]) == plan.outline.size("")


def test_without_a_declaration_members_of_lists_stay_whole() -> None:
    config = families.family("llama").config_class(**LLAMA)
    schema = families.family("llama").schema(config, "LlamaForCausalLM")
    outline = Outline.of(schema, lambda weight: np.dtype(np.float32))
    assert sorted(outline.whole) == [f"model.layers.{n}" for n in range(4)]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"model.embed_tokens": 0, "model.layers": CPU}, "does not say where all weights go.*model.norm.weight"),
        ("evenly", "device_map is none"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(given: Any, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        planned("LlamaForCausalLM", {}, given)


def test_modules_that_the_model_has_not_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert planned("LlamaForCausalLM", {}, {"": CPU, "model.rotary_emb": CPU}).by_device[CPU] == 40_640
    assert "that the model has not: model.rotary_emb" in caplog.text


@pytest.mark.parametrize("memory", [{CPU: "much"}, {CPU: -1}, {-1: 5}, {True: 5}, {"": 5}, {CPU: True}, "4GB"])
def test_memory_that_is_none_is_refused(memory: Any) -> None:
    with pytest.raises(ArgumentError, match="max_memory"):
        parse_max_memory(memory)


def test_a_disk_with_a_limit_may_be_too_small() -> None:
    with pytest.raises(ArgumentError, match="cannot keep the model"):
        planned("LlamaForCausalLM", {CPU: 9_000, DISK: 5_000})
