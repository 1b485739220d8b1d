"""Rows of the contract about the auto classes: their tables, their tasks, what is registered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triptych
from small_models import SMALL, config_of, inputs_of, random_folder
from triptych import AutoConfig, ConfigError, PretrainedConfig, TriptychError, families
from triptych.modeling import auto as autos
from triptych.names import AUTO_TASKS, BACKENDS
from triptych_conformance import Backend, assert_close
from walk import row

TASKS: dict[str, list[tuple[str, str, str]]] = {
    "9.18": [("ForPreTraining", "bert", "BertForPreTraining"), ("ForPreTraining", "electra", "ElectraForPreTraining"),
             ("ForPreTraining", "t5", "T5ForConditionalGeneration")],
    "9.19": [("ForCausalLM", "bert", "BertLMHeadModel"), ("ForCausalLM", "roberta", "RobertaForCausalLM"),
             ("ForCausalLM", "electra", "ElectraForCausalLM"), ("ForCausalLM", "gpt2", "GPT2LMHeadModel"),
             ("ForCausalLM", "opt", "OPTForCausalLM"), ("ForCausalLM", "llama", "LlamaForCausalLM")],
    "9.20": [("ForMaskedLM", "bert", "BertForMaskedLM"), ("ForMaskedLM", "distilbert", "DistilBertForMaskedLM")],
    "9.21": [("ForSeq2SeqLM", "t5", "T5ForConditionalGeneration")],
    "9.22": [("ForSequenceClassification", kind, stem) for kind, stem in (
        ("t5", "T5ForSequenceClassification"), ("gpt2", "GPT2ForSequenceClassification"),
        ("bert", "BertForSequenceClassification"), ("qwen2", "Qwen2ForSequenceClassification"))],
    "9.23": [("ForTokenClassification", kind, stem) for kind, stem in (
        ("t5", "T5ForTokenClassification"), ("gpt2", "GPT2ForTokenClassification"),
        ("llama", "LlamaForTokenClassification"), ("mistral", "MistralForTokenClassification"),
        ("qwen2", "Qwen2ForTokenClassification"), ("roberta", "RobertaForTokenClassification"))],
    "9.24": [("ForQuestionAnswering", kind, stem) for kind, stem in (
        ("t5", "T5ForQuestionAnswering"), ("gpt2", "GPT2ForQuestionAnswering"),
        ("llama", "LlamaForQuestionAnswering"), ("mistral", "MistralForQuestionAnswering"),
        ("qwen2", "Qwen2ForQuestionAnswering"), ("opt", "OPTForQuestionAnswering"))],
    "9.25": [("ForTextEncoding", "bert", "BertModel"), ("ForTextEncoding", "distilbert", "DistilBertModel"),
             ("ForTextEncoding", "t5", "T5EncoderModel")],
    "9.41": [("ForMultipleChoice", "bert", "BertForMultipleChoice"),
             ("ForMultipleChoice", "distilbert", "DistilBertForMultipleChoice")],
    "9.42": [("ForNextSentencePrediction", "bert", "BertForNextSentencePrediction")],
    "9.55": [("WithLMHead", "bert", "BertForMaskedLM"), ("WithLMHead", "gpt2", "GPT2LMHeadModel"),
             ("WithLMHead", "t5", "T5ForConditionalGeneration")],
}  # fmt: skip
"""Row -> auto class, family, and the class that it chooses."""

IN_ALL = {"pt": "Y", "tf": "Y", "flax": "Y"}
WITHOUT_FLAX = {"pt": "Y", "tf": "Y"}


def chooses(number: str) -> Any:
    def probe(backend: Backend, folder: Path) -> None:
        for name, kind, stem in TASKS[number]:
            auto, decodes = backend.cls(f"AutoModel{name}"), name == "ForCausalLM" and kind in ("bert", "roberta")
            config = config_of(kind, stem, **({"is_decoder": True} if decodes else {}))
            assert auto.class_for(config) is backend.cls(stem)
        saved = random_folder(folder, config, stem)
        model = auto.from_pretrained(saved)
        assert type(model) is backend.cls(stem)
        assert np.isfinite(next(iter(backend.run(model, inputs_of(stem, config)).values()))).all()

    return probe


for _number in TASKS:
    if _number != "9.55":
        row(_number, **(WITHOUT_FLAX if _number == "9.25" else IN_ALL))(chooses(_number))


@row("9.55", note="deprecated, as there", **WITHOUT_FLAX)
def the_class_of_any_language_model_is_deprecated(backend: Backend, folder: Path) -> None:
    with pytest.warns(FutureWarning, match=f"{backend.cls('AutoModelWithLMHead').__name__} is deprecated"):
        chooses("9.55")(backend, folder)


class RowConfig(PretrainedConfig):
    """A config of no family."""

    model_type = "row-nine"


class RowBertConfig(triptych.BertConfig):
    """A config of a class that derives from a built-in one."""

    model_type = RowConfig.model_type


@contextmanager
def registered(backend: Backend, config: type = RowConfig, stem: str = "PreTrainedModel") -> Iterator[tuple[Any, Any]]:
    """Two model classes of a config class that is registered for a while."""
    base = backend.cls(stem)
    model = type("RowModel", (base,), {"config_class": config, "__module__": __name__})
    other = type("RowHead", (base,), {"config_class": config, "__module__": __name__})
    tables = [backend.cls(name)._model_mapping for name in AUTO_TASKS]
    kept = [dict(table._extra_content) for table in tables]
    AutoConfig.register("row-nine", config)
    try:
        yield model, other
    finally:
        families._FAMILIES.pop("row-nine", None)
        families._REGISTERED.discard("row-nine")
        for table, content in zip(tables, kept, strict=True):
            table._extra_content = content


@row("9.2", **IN_ALL)
def a_config_alone(backend: Backend, folder: Path) -> None:
    auto, config = backend.cls("AutoModelForCausalLM"), config_of("gpt2")
    model = auto.from_config(config, torch_dtype="bfloat16", attn_implementation="eager")
    assert type(model) is backend.cls("GPT2LMHeadModel") and model.config is not config
    assert model.config._attn_implementation == "eager"
    if backend.name == "pt":
        import torch

        assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and torch.get_default_dtype() is torch.float32
        assert auto.from_config(config, torch_dtype=torch.float16).dtype is torch.float16
    else:
        assert "bfloat16" in str(model.compute_dtype if backend.name == "tf" else model.dtype)


@row("9.10", note="a registered class that another replaces is named in a warning", **IN_ALL)
def classes_are_registered(backend: Backend, folder: Path, caplog: Any = None) -> None:
    auto = backend.cls("AutoModel")
    with registered(backend) as (model, other):
        for _ in range(2):  # twice is once
            AutoConfig.register("row-nine", RowConfig)
            auto.register(RowConfig, model)
        assert auto.class_for(RowConfig()) is model
        auto.register(RowConfig, other)
        assert auto.class_for(RowConfig()) is other
        for taken in (triptych.BertConfig, triptych.T5Config):
            own = type("Own", (backend.cls("PreTrainedModel"),), {"config_class": taken})
            with pytest.raises(ValueError, match="(?s)is taken.*exist_ok=True"):
                auto.register(taken, own)
            assert auto.class_for(taken()) is not own
        with pytest.raises(ValueError, match="another config class"):
            auto.register(triptych.BertConfig, model, exist_ok=True)


@row("9.11", **IN_ALL)
def the_tables_are_there(backend: Backend, folder: Path) -> None:
    prefix = BACKENDS[backend.name][1]
    start = f"{prefix.upper()}_" if prefix else ""
    table, names = (getattr(triptych, f"{start}MODEL_FOR_CAUSAL_LM_MAPPING{end}") for end in ("", "_NAMES"))
    assert names["gpt2"] == f"{prefix}GPT2LMHeadModel" and "t5" not in names and dict(names)["opt"]
    assert table[triptych.GPT2Config] is backend.cls("GPT2LMHeadModel") and triptych.T5Config not in table
    assert table.get(triptych.T5Config) is None and table.get(triptych.T5Config, 3) == 3
    with pytest.raises(KeyError):
        table[triptych.T5Config]
    assert backend.cls("LlamaForCausalLM") in table.values() and triptych.LlamaConfig in list(table.keys())
    assert len(table) == len(names) == len(table.items())
    auto = backend.cls("AutoModelForCausalLM")
    assert auto._model_mapping is table
    with registered(backend) as (model, _):
        table.register(RowConfig, model)
        assert RowConfig in table and auto.class_for(RowConfig()) is model
        assert triptych.CONFIG_MAPPING["row-nine"] is RowConfig
    assert triptych.CONFIG_MAPPING_NAMES["bert"] == "BertConfig" and "row-nine" not in triptych.CONFIG_MAPPING
    own = autos._LazyAutoMapping(triptych.CONFIG_MAPPING_NAMES, {"bert": f"{prefix}BertForMaskedLM"})
    mine = type(f"{prefix}AutoMine", (autos._BaseAutoModelClass,), {"_model_mapping": own})
    assert mine.class_for(config_of("bert")) is backend.cls("BertForMaskedLM")
    with pytest.raises(ConfigError, match="bert"):
        mine.class_for(config_of("gpt2"))


@row("9.12", **IN_ALL)
def of_several_classes_the_config_chooses(backend: Backend, folder: Path) -> None:
    auto = backend.cls("AutoModel")
    with registered(backend) as (model, other):
        auto.register(RowConfig, (model, other))
        assert auto.class_for(RowConfig()) is model
        assert auto.class_for(RowConfig(architectures=["RowHead"])) is other
        assert auto.class_for(RowConfig(architectures=["Unknown"])) is model


@row("9.14", note="twelve families; others are registered", pt="R", tf="R", flax="R")
def a_family_that_is_not_here_is_named(backend: Backend, folder: Path) -> None:
    assert set(SMALL) <= set(triptych.CONFIG_MAPPING)
    saved = random_folder(folder, config_of("gpt2"), "GPT2Model")
    values = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**values, "model_type": "bloom"}))
    with pytest.raises(TriptychError, match="(?s)'bloom'.*register"):
        backend.load("AutoModel", saved)


NO_FAMILY = {
    "9.26": ("AutoBackbone", "pt"), "9.27": ("AudioClassification", "pt tf"),
    "9.28": ("AudioFrameClassification", "pt"), "9.29": ("AudioXVector", "pt"), "9.30": ("CTC", "pt"),
    "9.31": ("DepthEstimation", "pt"), "9.32": ("DocumentQuestionAnswering", "pt tf"),
    "9.33": ("ImageClassification", "pt tf flax"),
    "9.34": ("ImageSegmentation", "pt"), "9.35": ("ImageTextToText", "pt"), "9.36": ("ImageToImage", "pt"),
    "9.37": ("InstanceSegmentation", "pt"), "9.38": ("KeypointDetection", "pt"), "9.39": ("MaskGeneration", "pt tf"),
    "9.40": ("MaskedImageModeling", "pt tf"), "9.43": ("ObjectDetection", "pt"),
    "9.44": ("SemanticSegmentation", "pt tf"), "9.45": ("SpeechSeq2Seq", "pt tf flax"),
    "9.46": ("TableQuestionAnswering", "pt tf"), "9.47": ("TextToSpectrogram", "pt"), "9.48": ("TextToWaveform", "pt"),
    "9.49": ("UniversalSegmentation", "pt"), "9.50": ("VideoClassification", "pt"),
    "9.51": ("Vision2Seq", "pt tf flax"),
    "9.52": ("VisualQuestionAnswering", "pt"), "9.53": ("ZeroShotImageClassification", "pt tf"),
    "9.54": ("ZeroShotObjectDetection", "pt"),
}  # fmt: skip
"""Row -> the task that no built-in family has, and the frameworks where transformers had the auto class."""


def takes_what_is_registered(name: str) -> Any:
    def probe(backend: Backend, folder: Path) -> None:
        auto = backend.cls(name)
        for kind in ("bert", "t5"):
            with pytest.raises(ConfigError, match=f"(?s)no family has any.*{auto.__name__}.register"):
                auto.from_config(config_of(kind))
        with registered(backend, RowBertConfig, "BertModel") as (_, other):
            auto.register(RowBertConfig, other)
            other(RowBertConfig(**SMALL["bert"])).save_pretrained(folder)
            assert type(auto.from_pretrained(folder)) is other

    return probe


for _number, (_task, _where) in NO_FAMILY.items():
    _name = _task if _task == "AutoBackbone" else f"AutoModelFor{_task}"
    _note = "for classes that are registered; no built-in family has the task, and each is refused by name"
    row(_number, note=_note, **dict.fromkeys(_where.split(), "Y"))(takes_what_is_registered(_name))


class Dynamic:
    """A cache as transformers 4 has it."""

    def __init__(self) -> None:
        self.key_cache: list[Any] = []
        self.value_cache: list[Any] = []

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.key_cache[layer_idx].shape[2] if self.key_cache else 0

    def get_max_cache_shape(self) -> int | None:
        return None

    def update(self, key: Any, value: Any, layer_idx: int, cache_kwargs: Any = None) -> tuple[Any, Any]:
        import torch

        for held, new in ((self.key_cache, key), (self.value_cache, value)):
            if len(held) == layer_idx:
                held.append(new)
            else:
                held[layer_idx] = torch.cat([held[layer_idx], new], 2)
        return self.key_cache[layer_idx], self.value_cache[layer_idx]


class Static(Dynamic):
    """One of a fixed size."""

    def get_max_cache_shape(self) -> int | None:
        return 16


@row("5.10.23", pt="Y", note="tuples too, and the other caches of `cache_utils`")
def caches_of_transformers_4(backend: Backend, folder: Path) -> None:
    import torch
    from triptych.cache_utils import StaticCache

    for kind, stem in (("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM"), ("opt", "OPTForCausalLM"),
                       ("t5", "T5ForConditionalGeneration")):  # fmt: skip
        config = config_of(kind)
        model = backend.cls(stem)(config).eval()
        ids = torch.tensor(inputs_of(stem, config)["input_ids"])
        read, more = ("decoder_input_ids", {"input_ids": ids}) if kind == "t5" else ("input_ids", {})
        whole = model(**more, **{read: ids}).logits[:, 4:]
        first = model(**more, **{read: ids[:, :4]}, use_cache=True).past_key_values
        pairs = first.to_legacy_cache()
        assert len(first) == len(pairs) and first[0][0].shape[2] == 4 and len(pairs[-1]) == (4 if kind == "t5" else 2)
        held = Dynamic()
        model(**more, **{read: ids[:, :4]}, past_key_values=held)
        assert held.get_seq_length() == 4  # changed by the call, as there
        static = StaticCache(config, ids.shape[0], 11)
        with torch.no_grad():
            begun = model(**more, **{read: ids[:, :4]}, past_key_values=static)
            assert_close(begun.logits, model(**more, **{read: ids[:, :4]}).logits)
            for cache in (first, pairs, held, static):
                found = model(**more, **{read: ids[:, 4:]}, past_key_values=cache)
                assert_close(found.logits, whole.detach())
                assert found.past_key_values is cache or cache is first or cache is pairs
                assert found.past_key_values.get_seq_length() == 11
        for wrong in (Static(), ((1, 2, 3),)):
            with pytest.raises(TriptychError, match="is no cache of triptych"):
                model(**more, **{read: ids}, past_key_values=wrong)
