"""Rows of the contract about configs and generation configs."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from triptych import (
    AutoConfig,
    BertConfig,
    ConfigError,
    GenerationConfig,
    GPT2Config,
    PretrainedConfig,
    SaveError,
    TriptychError,
)
from triptych.config import get_configuration_file, layer_type_validation, recursive_diff_dict
from triptych.generation import CompileConfig, SynthIDTextWatermarkingConfig, WatermarkingConfig
from triptych_conformance import Backend
from walk import row, state

TINY: dict[str, Any] = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 11, "n_positions": 16, "bos_token_id": 1,
        "eos_token_id": 2}  # fmt: skip


class TextConfig(PretrainedConfig):
    model_type = "probe_text"
    base_config_key = "text_config"

    def __init__(self, width: int = 4, depth: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.depth = width, depth


class SoundConfig(PretrainedConfig):
    model_type = "probe_sound"

    def __init__(self, rate: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate


class BothConfig(PretrainedConfig):
    model_type = "probe_both"
    sub_configs = {"text_config": TextConfig, "sound_config": SoundConfig}

    def __init__(self, text_config: Any = None, sound_config: Any = None, **kwargs: Any) -> None:
        self.text_config = text_config if isinstance(text_config, TextConfig) else TextConfig(**(text_config or {}))
        self.sound_config = SoundConfig(**(sound_config or {}))
        super().__init__(**kwargs)


class NeedyConfig(PretrainedConfig):
    model_type = "probe_needy"
    has_no_defaults_at_init = True

    def __init__(self, *, part: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = TextConfig(**part)


def written(config: Any, folder: Path) -> dict[str, Any]:
    config.save_pretrained(folder)
    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return values


def reads(folder: Path, values: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@contextmanager
def logged(words: str) -> Iterator[None]:
    """Fail unless a warning with `words` in it is logged."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("triptych").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("triptych").removeHandler(handler)
    assert any(words in message for message in found), found


# -- fields and properties --------------------------------------------------------------------------------------------


@row("2.2", pt="Y")
def a_config_is_read_from_the_key_of_a_composite(backend: Backend, folder: Path) -> None:
    reads(folder, {"model_type": "probe_both", "text_config": {"model_type": "probe_text", "width": 9}})
    assert TextConfig.from_pretrained(folder).width == 9


@row("2.3", pt="Y")
@row("2.100", pt="Y")
def a_composite_is_written_and_read(backend: Backend, folder: Path) -> None:
    config = BothConfig({"width": 7}, {"rate": 3})
    values = written(config, folder)
    assert values["text_config"] == {"model_type": "probe_text", "width": 7}
    again = BothConfig.from_pretrained(folder)
    assert isinstance(again.text_config, TextConfig)
    assert (again.text_config.width, again.sound_config.rate) == (7, 3)
    assert again == config and again != BothConfig()


@row("2.4", pt="Y")
def a_class_that_needs_arguments_is_written(backend: Backend, folder: Path) -> None:
    values = written(NeedyConfig(part={"width": 7}), folder)
    assert values["part"]["width"] == 7 and "max_length" not in values and "torchscript" not in values
    assert NeedyConfig.from_pretrained(folder).part.width == 7


@row("2.7", pt="Y", note="kept on the class, never written; nothing is made parallel by them yet")
def plans_are_attributes_of_the_class(backend: Backend, folder: Path) -> None:
    assert (PretrainedConfig.base_model_tp_plan, PretrainedConfig.base_model_pp_plan) == (None, None)
    assert PretrainedConfig.base_model_ep_plan is None
    config = TextConfig()
    config.update({"base_model_tp_plan": {"layers.*": "colwise"}})
    assert "base_model_tp_plan" not in written(config, folder)


@row("2.10", pt="Y", note="True chooses eager attention where none was chosen, and keeps another, as 4.48 does")
@row("2.48", pt="Y", note="as 2.10; 4.57 raises where another attention was chosen")
def attention_probabilities_ask_for_eager_attention(backend: Backend, folder: Path) -> None:
    config = TextConfig(output_attentions=True)
    assert config.output_attentions is True and config._attn_implementation_internal == "eager"
    config = TextConfig(attn_implementation="sdpa")
    config.output_attentions = True
    assert config._attn_implementation == "sdpa"
    assert written(config, folder)["output_attentions"] is True


@row("2.12", pt="Y")
@row("2.49", pt="Y")
def torchscript(backend: Backend, folder: Path) -> None:
    assert TextConfig().torchscript is False and TextConfig().use_return_dict is True
    config = TextConfig(torchscript=True)
    assert config.use_return_dict is False
    assert written(config, folder)["torchscript"] is True
    assert TextConfig.from_pretrained(folder).torchscript is True


@row("2.13", pt="Y", note="a torch.dtype where torch is loaded in the process, else its name")
@row("2.32", pt="Y", note="no deprecation warning, as in 4.48")
@row("2.46", pt="Y")
@row("2.52", pt="Y")
def a_dtype_is_of_torch(backend: Backend, folder: Path) -> None:
    import torch

    config = TextConfig(torch_dtype="float16")
    assert config.torch_dtype == config.dtype == torch.float16
    assert torch.zeros(1, dtype=config.torch_dtype).dtype is torch.float16
    config.torch_dtype = torch.bfloat16
    assert config.dtype is torch.bfloat16
    assert written(config, folder)["torch_dtype"] == "bfloat16"
    assert TextConfig.from_pretrained(folder).torch_dtype is torch.bfloat16


@row("2.16", pt="Y", note="kept; built-in families compute the same numbers without chunks")
def chunk_size_is_kept(backend: Backend, folder: Path) -> None:
    assert TextConfig().chunk_size_feed_forward == 0
    assert written(TextConfig(chunk_size_feed_forward=2), folder)["chunk_size_feed_forward"] == 2


@row("2.21", pt="Y")
def tie_encoder_decoder(backend: Backend, folder: Path) -> None:
    assert TextConfig().tie_encoder_decoder is False
    assert written(TextConfig(tie_encoder_decoder=True), folder)["tie_encoder_decoder"] is True


@row("2.33", pt="Y")
@row("2.47", pt="Y")
def name_or_path(backend: Backend, folder: Path) -> None:
    assert "_name_or_path" not in written(TextConfig(name_or_path="here"), folder)
    config = TextConfig.from_pretrained(folder)
    assert config._name_or_path == config.name_or_path == str(folder)
    config.name_or_path = folder
    assert config._name_or_path == config.to_dict()["_name_or_path"] == str(folder)


@row("2.34", pt="Y")
@row("2.60", pt="Y")
def commit_hash(backend: Backend, folder: Path) -> None:
    assert TextConfig()._commit_hash is None
    config = TextConfig(_commit_hash="abc")
    assert config._commit_hash == "abc" and "_commit_hash" not in written(config, folder)
    config, unused = TextConfig.from_pretrained(folder, _commit_hash="def", return_unused_kwargs=True)
    assert config._commit_hash == "def" and unused == {}


@row("2.35", pt="Y")
@row("2.51", pt="Y")
def attn_implementation(backend: Backend, folder: Path) -> None:
    config = BothConfig(attn_implementation="sdpa")
    assert config._attn_implementation == config.text_config._attn_implementation == "sdpa"
    assert TextConfig()._attn_implementation == "eager"
    config._attn_implementation = {"": "eager", "text_config": "flex_attention"}
    assert (config._attn_implementation, config.text_config._attn_implementation) == ("eager", "flex_attention")
    assert config.sound_config._attn_implementation == "sdpa"
    assert "attn" not in json.dumps(written(config, folder))
    config, unused = BothConfig.from_pretrained(folder, attn_implementation="sdpa", return_unused_kwargs=True)
    assert config._attn_implementation == "sdpa" and unused == {}


@row("2.36", pt="Y", note="that of the file is kept; a new config says 4.57.6, as which it is to be read")
@row("2.96", pt="Y", note="as 2.36")
def transformers_version(backend: Backend, folder: Path) -> None:
    assert TextConfig().transformers_version is None
    assert written(TextConfig(), folder)["transformers_version"].startswith("4.")
    assert written(TextConfig(transformers_version="4.30.0"), folder)["transformers_version"] == "4.30.0"
    assert TextConfig.from_pretrained(folder).transformers_version == "4.30.0"


@row("2.37", pt="Y")
def generation_parameters(backend: Backend, folder: Path) -> None:
    config = TextConfig()
    assert (config.max_length, config.num_beams, config.forced_bos_token_id, config.top_k) == (20, 1, None, 50)
    assert "max_length" not in written(config, folder) and config.to_dict()["max_length"] == 20
    with pytest.warns(UserWarning, match="generation"):
        values = written(TextConfig(max_length=5, forced_bos_token_id=0), folder)
    assert (values["max_length"], values["forced_bos_token_id"]) == (5, 0)
    assert TextConfig.from_pretrained(folder).max_length == 5


@row("2.38", pt="Y", note="families refuse tf_legacy_loss=True, which they do not compute")
def old_fields(backend: Backend, folder: Path) -> None:
    assert (TextConfig().tf_legacy_loss, TextConfig().use_bfloat16) == (False, False)
    values = written(TextConfig(tf_legacy_loss=True, use_bfloat16=True, pretraining_tp=2), folder)
    assert (values["tf_legacy_loss"], values["use_bfloat16"], values["pretraining_tp"]) == (True, True, 2)


@row("2.39", pt="Y", note="one that would hide a method is kept in the file alone")
def unknown_fields_become_attributes(backend: Backend, folder: Path) -> None:
    class Named(PretrainedConfig):
        model_type = "probe_named"
        dropout = 0.1

        def __init__(self, extra: int = 1, checks: int = 2, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.extra, self.checks, self._hidden = extra, checks, kwargs.get("_hidden", 0)

    values = written(Named(extra=5, checks=6, dropout=0.5, _hidden=7, to_dict=8), folder)
    again = Named.from_pretrained(folder)
    assert (again.extra, again.checks, again.dropout, again._hidden) == (5, 6, 0.5, 7)
    assert values["to_dict"] == 8 and again.to_dict()["to_dict"] == 8


@row("2.40", pt="Y")
def gradient_checkpointing_is_warned_of_and_kept(backend: Backend, folder: Path) -> None:
    with pytest.warns(UserWarning, match="gradient_checkpointing_enable"):
        assert TextConfig(gradient_checkpointing=True).gradient_checkpointing is True


@row("2.43", pt="Y")
def id2label_counts_for_more_than_num_labels(backend: Backend, folder: Path) -> None:
    with logged("contradicts"):
        assert TextConfig(num_labels=3, id2label={0: "a", 1: "b"}).num_labels == 2


@row("2.90", pt="Y")
def overrides_must_not_contradict_each_other(backend: Backend, folder: Path) -> None:
    with pytest.raises(ConfigError, match="num_labels"):
        TextConfig.from_dict({}, num_labels=3, id2label={0: "a"})


# -- methods ----------------------------------------------------------------------------------------------------------


@row("2.58", pt="Y", note="of a local folder")
def gguf_file(backend: Backend, folder: Path) -> None:
    with pytest.raises(TriptychError, match="x.gguf"):
        PretrainedConfig.from_pretrained(folder, gguf_file="x.gguf")
    from gguf_models import make_model, write_gguf

    model = make_model("gpt2")
    write_gguf(folder / "x.gguf", "gpt2", model)
    config = GPT2Config.from_pretrained(folder, gguf_file="x.gguf", n_positions=5)
    assert (config.n_embd, config.n_positions) == (model.config.n_embd, 5)


@row("2.61", pt="Y", note="through the constructor: what it derives from them is derived anew")
def overrides(backend: Backend, folder: Path) -> None:
    class Late(PretrainedConfig):
        model_type = "probe_late"

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.late = 1

    written(TextConfig(), folder)
    config, unused = TextConfig.from_pretrained(folder, max_length=7, width=3, strange=1, return_unused_kwargs=True)
    assert (config.max_length, config.width, unused) == (7, 3, {"strange": 1})
    assert Late.from_dict({}, late=2).late == 2
    named = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    assert TextConfig.from_dict(named, num_labels=2).id2label == {0: "no", 1: "yes"}


@row("2.65", pt="Y")
@row("2.66", pt="Y")
@row("2.67", pt="Y")
@row("2.101", pt="Y")
def nested_values_are_plain(backend: Backend, folder: Path) -> None:
    import torch

    config = BothConfig({"width": 7})
    config.mine = {"deep": [{"dtype": torch.float16}, TextConfig(3)], "dtype": torch.bfloat16}
    values = config.to_dict()
    assert values["text_config"]["width"] == 7 and "transformers_version" not in values["text_config"]
    assert values["mine"]["dtype"] == "bfloat16" and values["mine"]["deep"][0] == {"dtype": "float16"}
    assert values["mine"]["deep"][1]["width"] == 3
    config.to_json_file(folder / "x.json", use_diff=False)
    assert json.loads((folder / "x.json").read_text()) == json.loads(config.to_json_string(use_diff=False)) == values


@row("2.70", pt="Y")
@row("3.23", pt="Y")
def dtypes_become_text_in_place(backend: Backend, folder: Path) -> None:
    import torch

    for config in (TextConfig(), GenerationConfig()):
        values = {"torch_dtype": torch.float16, "a": {"dtype": torch.float32}}
        config.dict_torch_dtype_to_str(values)
        assert values == {"torch_dtype": "float16", "a": {"dtype": "float32"}}
        config.dict_dtype_to_str(values)


@row("2.72", pt="Y")
def the_text_part_of_a_config(backend: Backend, folder: Path) -> None:
    config = BothConfig()
    assert config.get_text_config() is config.get_text_config(decoder=True) is config.text_config
    config.text_encoder = TextConfig()
    assert config.get_text_config(encoder=True) is config.text_encoder
    with pytest.raises(ValueError, match="several"):
        config.get_text_config()
    flat = PretrainedConfig(is_encoder_decoder=True, encoder_layers=2, decoder_layers=3, decoder_ffn_dim=4)
    decoder = flat.get_text_config(decoder=True)
    assert (decoder.num_hidden_layers, decoder.ffn_dim, hasattr(decoder, "encoder_layers")) == (3, 4, False)
    assert flat.decoder_layers == 3 and flat.get_text_config() is flat


@row("2.73", pt="Y")
def a_config_of_two(backend: Backend, folder: Path) -> None:
    class Pair(PretrainedConfig):
        def __init__(self, text_config: Any = None, vision_config: Any = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.text_config, self.vision_config = TextConfig(**text_config), SoundConfig(**vision_config)

    pair = Pair.from_text_vision_configs(TextConfig(3), SoundConfig(5), scale=2)
    assert (pair.text_config.width, pair.vision_config.rate, pair.scale) == (3, 5, 2)


@row("2.77", pt="Y")
def a_config_is_iterated_by_its_fields(backend: Backend, folder: Path) -> None:
    names = list(TextConfig())
    assert {"width", "max_length", "id2label"} <= set(names) and all(hasattr(TextConfig(), name) for name in names)


@row("2.78", pt="Y")
@row("2.87", pt="Y")
def a_file_for_a_version(backend: Backend, folder: Path) -> None:
    files = ["config.json", "config.4.5.0.json", "config.4.10.0.json", "config.9.0.0.json"]
    assert get_configuration_file(files) == "config.4.10.0.json"
    assert get_configuration_file(["config.9.0.0.json"]) == "config.json"
    reads(folder, {"width": 1, "configuration_files": files})
    (folder / "config.4.10.0.json").write_text('{"width": 2}')
    assert TextConfig.from_pretrained(folder).width == 2
    reads(folder, {"width": 1, "configuration_files": ["config.4.1.0.json"]})
    with pytest.raises(TriptychError, match=r"config\.4\.1\.0\.json"):
        TextConfig.from_pretrained(folder)


@row("2.79", pt="Y")
def the_difference_of_two_dicts(backend: Backend, folder: Path) -> None:
    assert recursive_diff_dict({"a": 1, "b": 2}, {"a": 1, "b": 3}) == {"b": 2}
    config = BothConfig({"width": 7})
    found = recursive_diff_dict(config.to_dict(), BothConfig().to_dict(), config)
    assert found["text_config"] == {"width": 7} and "sound_config" not in found


@row("2.80", pt="Y")
def types_of_layers(backend: Backend, folder: Path) -> None:
    layer_type_validation(["full_attention", "sliding_attention"], 2)
    for types, number in ((["strange"], 1), (["full_attention"], 2)):
        with pytest.raises(ValueError, match="layer_types"):
            layer_type_validation(types, number)


# -- files ------------------------------------------------------------------------------------------------------------


@row("1.29", pt="Y")
def a_config_is_not_saved_over_a_file(backend: Backend, folder: Path) -> None:
    (folder / "file").write_text("mine")
    for config in (TextConfig(), GenerationConfig()):
        with pytest.raises(SaveError):
            config.save_pretrained(folder / "file")
    assert (folder / "file").read_text() == "mine"


@row("2.82", pt="R", note="an address is no repository: no file is fetched from elsewhere than a Hub")
def an_address(backend: Backend, folder: Path) -> None:
    with pytest.raises(TriptychError, match="address"):
        TextConfig.from_pretrained("https://huggingface.co/org/name/config.json")


@row("2.84", pt="Y")
def a_broken_file_is_an_os_error(backend: Backend, folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(OSError, match=r"config\.json") as caught:
        TextConfig.from_pretrained(folder)
    assert isinstance(caught.value, ConfigError)


@row("2.85", pt="Y")
def another_model_type_is_a_warning(backend: Backend, folder: Path) -> None:
    reads(folder, {"model_type": "gpt2", "hidden_size": 24})
    with logged("gpt2"):
        config = BertConfig.from_pretrained(folder)
    assert (type(config), config.hidden_size, config.to_dict()["model_type"]) == (BertConfig, 24, "bert")


@row("2.86", pt="Y")
def a_part_is_found_by_its_model_type(backend: Backend, folder: Path) -> None:
    reads(folder, {"model_type": "probe_both", "sound_config": {"model_type": "probe_sound", "rate": 5}})
    assert SoundConfig.from_pretrained(folder).rate == 5


@row("2.88", pt="Y")
def a_dtype_is_returned_too(backend: Backend, folder: Path) -> None:
    config, unused = BothConfig.from_dict({}, torch_dtype="float16", return_unused_kwargs=True)
    assert unused == {"torch_dtype": "float16"}
    assert config.to_dict()["torch_dtype"] == config.text_config.to_dict()["dtype"] == "float16"


@row("2.89", pt="Y")
def a_dict_sets_fields_of_a_part(backend: Backend, folder: Path) -> None:
    written(BothConfig({"width": 7, "depth": 3}), folder)
    config = BothConfig.from_pretrained(folder, text_config={"width": 9})
    assert (type(config.text_config), config.text_config.width, config.text_config.depth) == (TextConfig, 9, 3)


@row("2.92", pt="Y")
def generation_parameters_are_warned_of(backend: Backend, folder: Path) -> None:
    with pytest.warns(UserWarning, match="num_beams"):
        TextConfig(num_beams=4).save_pretrained(folder)

    class Routed(PretrainedConfig):
        def __init__(self, top_k: int = 2, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.top_k = top_k

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert written(Routed(top_k=4), folder)["top_k"] == 4, "a field of the class's own"


@row("2.99", pt="Y")
def infinities(backend: Backend, folder: Path) -> None:
    TextConfig(limit=[0.0, float("inf")]).save_pretrained(folder)
    assert TextConfig.from_pretrained(folder).limit == [0.0, float("inf")]


state("2.102", pt="R", note="a file that says a thing twice is refused: readers disagree on it")


# -- auto classes -----------------------------------------------------------------------------------------------------


@row("9.15", pt="Y")
def auto_config(backend: Backend, folder: Path) -> None:
    AutoConfig.for_model("bert", hidden_size=24).save_pretrained(folder)
    assert AutoConfig.from_pretrained(folder).hidden_size == 24
    AutoConfig.register("probe_sound", SoundConfig, exist_ok=True)
    SoundConfig(rate=3).save_pretrained(folder)
    assert type(AutoConfig.from_pretrained(folder)) is SoundConfig


@row("9.16", pt="Y", note="by a word of the last part of the path, with a warning; v4 took any part of it")
def a_model_type_is_guessed(backend: Backend, folder: Path) -> None:
    (folder / "bert-base-mine").mkdir()
    reads(folder / "bert-base-mine", {"hidden_size": 24})
    with logged("model_type"):
        assert type(AutoConfig.from_pretrained(folder / "bert-base-mine")) is BertConfig
    (folder / "alberta").mkdir()
    reads(folder / "alberta", {"hidden_size": 24})
    with pytest.raises(ConfigError, match="model_type"):
        AutoConfig.from_pretrained(folder / "alberta")


# -- generation configs -----------------------------------------------------------------------------------------------

LENGTH = {"max_length": 20, "max_new_tokens": None, "min_length": 0, "min_new_tokens": None, "early_stopping": False,
          "max_time": None, "stop_strings": None}  # fmt: skip
STRATEGY = {"do_sample": False, "num_beams": 1, "use_cache": True, "cache_implementation": None,
            "cache_config": None, "return_legacy_cache": None, "prefill_chunk_size": None}  # fmt: skip
LOGITS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": None, "typical_p": 1.0, "epsilon_cutoff": 0.0,
          "eta_cutoff": 0.0, "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "length_penalty": 1.0,
          "no_repeat_ngram_size": 0, "bad_words_ids": None, "renormalize_logits": False, "forced_bos_token_id": None,
          "forced_eos_token_id": None, "remove_invalid_values": False, "exponential_decay_length_penalty": None,
          "suppress_tokens": None, "begin_suppress_tokens": None, "sequence_bias": None, "token_healing": False,
          "guidance_scale": None, "watermarking_config": None}  # fmt: skip
OUTPUTS = {"num_return_sequences": 1, "output_attentions": False, "output_hidden_states": False,
           "output_scores": False, "output_logits": None, "return_dict_in_generate": False}  # fmt: skip
TOKENS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None, "encoder_no_repeat_ngram_size": 0,
          "decoder_start_token_id": None}  # fmt: skip
ASSISTANT = {"is_assistant": False, "num_assistant_tokens": 20, "num_assistant_tokens_schedule": "constant",
             "assistant_confidence_threshold": 0.4, "prompt_lookup_num_tokens": None,
             "max_matching_ngram_size": None, "assistant_early_exit": None, "assistant_lookbehind": 10,
             "target_lookbehind": 10}  # fmt: skip
OTHERS = {"compile_config": None, "disable_compile": False, "low_memory": None, "penalty_alpha": None,
          "dola_layers": None, "diversity_penalty": 0.0, "num_beam_groups": 1, "constraints": None,
          "force_words_ids": None}  # fmt: skip


@row("3.1", pt="Y")
@row("3.2", pt="Y")
@row("3.3", pt="Y")
@row("3.4", pt="Y")
@row("3.5", pt="Y")
@row("3.6", pt="Y")
@row("3.7", pt="Y")
@row("3.8", pt="Y")
def parameters_of_generation(backend: Backend, folder: Path) -> None:
    config = GenerationConfig()
    for group in (LENGTH, STRATEGY, LOGITS, OUTPUTS, TOKENS, ASSISTANT, OTHERS):
        assert {name: getattr(config, name) for name in group} == group
    changed = GenerationConfig(max_new_tokens=3, top_k=7, do_sample=True, eos_token_id=[1, 2])
    assert (changed.max_new_tokens, changed.top_k, changed.eos_token_id) == (3, 7, [1, 2])


@row("3.9", pt="Y")
@row("3.22", pt="Y")
def metadata_is_not_compared(backend: Backend, folder: Path) -> None:
    one, two = GenerationConfig(top_k=3, _commit_hash="a", transformers_version="4.30.0"), GenerationConfig(top_k=3)
    assert one == two and hash(one) == hash(two) and one != GenerationConfig() and one != 3
    assert "_commit_hash" not in one.to_dict() and one.to_dict()["transformers_version"] == "4.30.0"


@row("3.10", pt="Y")
def unknown_parameters_are_kept(backend: Backend, folder: Path) -> None:
    GenerationConfig(mine={"a": 1}).save_pretrained(folder)
    assert GenerationConfig.from_pretrained(folder).mine == {"a": 1}
    assert not hasattr(GenerationConfig(mine=1, _from_model_config=True), "mine")
    flags = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")
    assert GenerationConfig.extra_output_flags == flags


@row("3.11", pt="Y")
def ways_of_generating(backend: Backend, folder: Path) -> None:
    modes: dict[str, dict[str, Any]] = {
        "greedy_search": {}, "sample": {"do_sample": True}, "beam_search": {"num_beams": 2},
        "beam_sample": {"num_beams": 2, "do_sample": True}, "contrastive_search": {"penalty_alpha": 0.5, "top_k": 4},
        "group_beam_search": {"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 0.5},
        "assisted_generation": {"prompt_lookup_num_tokens": 2}, "dola_generation": {"dola_layers": "low"},
        "constrained_beam_search": {"num_beams": 2, "force_words_ids": [[1]]},
    }  # fmt: skip
    for mode, parameters in modes.items():
        assert GenerationConfig(**parameters).get_generation_mode() == mode
    with pytest.raises(ConfigError, match="assisted"):
        GenerationConfig(num_beams=2).get_generation_mode(assistant_model=object())


@row("3.12", pt="Y", note="what has no effect is logged, each time")
@row("3.24", pt="Y")
def what_cannot_be_meant_is_refused(backend: Backend, folder: Path) -> None:
    refused: list[dict[str, Any]] = [
        {"early_stopping": "x"}, {"max_new_tokens": 0}, {"cache_implementation": "x"}, {"compile_config": 3},
        {"num_return_sequences": 2}, {"num_return_sequences": 3, "num_beams": 2}, {"streamer": None},
        {"max_length": "long"},
    ]  # fmt: skip
    for parameters in refused:
        with pytest.raises(ValueError, match=list(parameters)[0]):
            GenerationConfig(**parameters)
    GenerationConfig(temperature=0.5).validate()


@row("3.13", pt="Y")
@row("3.14", pt="Y")
@row("3.18", pt="Y")
@row("3.19", pt="Y")
@row("3.25", pt="Y")
def generation_configs_are_saved_strictly(backend: Backend, folder: Path) -> None:
    config = GenerationConfig(temperature=0.5)
    with pytest.raises(ValueError, match="temperature"):
        config.save_pretrained(folder)
    assert not list(folder.iterdir())
    config.do_sample = True
    config.save_pretrained(folder, "mine.json")
    text = (folder / "mine.json").read_text()
    assert text == config.to_json_string() and text.endswith("}\n")
    assert json.loads(text).keys() == {"do_sample", "temperature", "transformers_version"}
    again, unused = GenerationConfig.from_pretrained(folder, "mine.json", top_k=3, return_unused_kwargs=True)
    assert (again.temperature, again.top_k, unused) == (0.5, 3, {})
    config.to_json_file(folder / "all.json", use_diff=False)
    assert json.loads((folder / "all.json").read_text())["max_length"] == 20
    with pytest.raises(OSError, match=r"generation_config\.json"):
        GenerationConfig.from_pretrained(folder)


@row("3.15", pt="Y")
@row("3.16", pt="Y")
@row("3.17", pt="Y")
def generation_configs_of_dicts(backend: Backend, folder: Path) -> None:
    config, unused = GenerationConfig.from_dict({"top_k": 3, "mine": 1}, num_beams=2, return_unused_kwargs=True)
    assert (config.top_k, config.mine, config.num_beams, unused) == (3, 1, 2, {})
    assert config.to_diff_dict().keys() == {"top_k", "mine", "num_beams", "transformers_version"}
    assert config.to_dict()["max_length"] == 20 and "compile_config" not in config.to_dict()


@row("3.20", pt="Y")
def of_the_config_of_a_model(backend: Backend, folder: Path) -> None:
    config = BothConfig({"max_length": 7, "eos_token_id": 3}, num_beams=2, mine=5, output_attentions=True)
    made = GenerationConfig.from_model_config(config)
    assert (made.max_length, made.num_beams, made.eos_token_id) == (7, 2, 3)
    assert made._from_model_config and made.return_dict_in_generate and not hasattr(made, "mine")


@row("3.21", pt="Y", note="a bad value changes nothing")
def generation_configs_are_updated(backend: Backend, folder: Path) -> None:
    config = GenerationConfig()
    assert config.update(top_k=3, strange=1) == {"strange": 1} and config.top_k == 3
    with pytest.raises(ValueError, match="max_new_tokens"):
        config.update(top_k=5, max_new_tokens=-1)
    assert (config.top_k, config.max_new_tokens) == (3, None)


@row("3.27", pt="Y")
@row("3.28", pt="Y")
def watermarks(backend: Backend, folder: Path) -> None:
    config = GenerationConfig(watermarking_config={"bias": 3.0})
    assert config.watermarking_config == WatermarkingConfig(bias=3.0)
    config.save_pretrained(folder)
    assert GenerationConfig.from_pretrained(folder) == config
    other = SynthIDTextWatermarkingConfig(ngram_len=5, keys=[1, 2])
    assert GenerationConfig(watermarking_config=other.to_dict()).watermarking_config == other
    for bad in ({"greenlist_ratio": 2.0}, {"seeding_scheme": "x"}, {"context_width": 0}, {"strange": 1},
                {**other.to_dict(), "sampling_table_size": 2**25}):  # fmt: skip
        with pytest.raises(ConfigError, match=next(reversed(bad)) if len(bad) == 1 else "sampling_table_size"):
            GenerationConfig(watermarking_config=bad)


@row("3.29", pt="Y", note="an argument of `get_compiled_call` too; never written")
def arguments_of_a_compilation(backend: Backend, folder: Path) -> None:
    said = {"fullgraph": False, "dynamic": None, "backend": "inductor", "mode": "reduce-overhead", "options": None}
    assert CompileConfig().to_dict() == said
    config = GenerationConfig(compile_config=CompileConfig(dynamic=True))
    assert config.compile_config.dynamic and "compile_config" not in config.to_dict()


# -- models and their generation configs ------------------------------------------------------------------------------


@row("5.4.50", pt="Y", note="made when it is first asked for")
@row("6.52", tf="Y", note="made when it is first asked for")
@row("7.18", flax="Y", note="made when it is first asked for")
def a_model_has_a_generation_config(backend: Backend, folder: Path) -> None:
    model = backend.cls("GPT2LMHeadModel")(GPT2Config(**TINY))
    assert model.generation_config == GenerationConfig(bos_token_id=1, eos_token_id=2)
    assert model.generation_config is model.generation_config
    model.generation_config = GenerationConfig(top_k=3)
    assert model.generation_config.top_k == 3
    model.generation_config = None
    assert model.generation_config is None
    assert backend.cls("GPT2Model")(GPT2Config(**TINY)).generation_config is None


@row("5.4.1", pt="Y", note="a class made of a declaration, or derived from one, takes its own config class alone")
def a_class_takes_any_config(backend: Backend, folder: Path) -> None:
    import transformers
    from torch import nn

    from triptych import BertModel, PreTrainedModel

    class Plain(PreTrainedModel):
        config_class = TextConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.layer = nn.Linear(config.width, 2)
            self.post_init()

    other = SoundConfig(width=3)
    assert Plain(other).config is other and Plain.config_class is TextConfig
    theirs = Plain(transformers.PretrainedConfig(width=5))
    theirs.save_pretrained(folder)
    assert Plain.from_pretrained(folder).layer.in_features == theirs.config.width == 5
    for cls, config in ((Plain, {"width": 3}), (BertModel, GPT2Config(**TINY))):
        with pytest.raises(TriptychError, match="cannot be made"):
            cls(config)


@row("1.2", pt="Y", tf="Y", flax="Y", note="kept of any model of a local folder; of the Hub, of those that generate")
@row("3.26", pt="Y")
@row("5.5.67", pt="Y", note="a file that is refused fails the load, of a model that may generate")
@row("5.6.16", pt="Y", note="parameters without effect fail the save only if they were changed")
@row("6.111", tf="Y", note="as 5.5.67")
@row("7.66", flax="Y", note="as 5.5.67")
@row("11.29", pt="Y", tf="Y", flax="Y")
def the_file_is_loaded_and_saved(backend: Backend, folder: Path) -> None:
    cls = backend.cls("GPT2LMHeadModel")
    model = cls(GPT2Config(**TINY))
    model.save_pretrained(folder)
    file = folder / "generation_config.json"
    assert json.loads(file.read_text())["eos_token_id"] == 2
    file.write_text('{"max_new_tokens": 4, "temperature": 0.5, "mine": 1}')
    again = cls.from_pretrained(folder)
    assert (again.generation_config.max_new_tokens, again.generation_config.mine) == (4, 1)
    again.save_pretrained(folder / "again")
    kept = json.loads((folder / "again/generation_config.json").read_text())
    assert kept.items() >= {"max_new_tokens": 4, "temperature": 0.5, "mine": 1}.items()
    again.generation_config.top_p = 0.5
    with pytest.raises(ConfigError, match="top_p"):
        again.save_pretrained(folder / "never")
    assert not (folder / "never").exists()
    given = cls.from_pretrained(folder, generation_config=GenerationConfig(max_new_tokens=9))
    assert given.generation_config.max_new_tokens == 9
    trunk = backend.cls("GPT2Model").from_pretrained(folder)
    trunk.save_pretrained(folder / "trunk")
    assert json.loads((folder / "trunk/generation_config.json").read_text())["mine"] == 1
    file.write_text('{"max_new_tokens": -1}')
    with pytest.raises(ConfigError, match=r"generation_config\.json.*max_new_tokens"):
        cls.from_pretrained(folder)
    file.unlink()
    assert cls.from_pretrained(folder).generation_config.eos_token_id == 2


@row("5.6.17", pt="Y", note="in the files: the live config stays; what generation_config says of its own stays too")
def parameters_are_moved_out_of_the_config(backend: Backend, folder: Path) -> None:
    model = backend.cls("GPT2LMHeadModel")(GPT2Config(**TINY, num_beams=4, max_length=9))
    model.generation_config.max_length = 12
    with pytest.warns(UserWarning, match="num_beams"):
        model.save_pretrained(folder)
    kept = json.loads((folder / "generation_config.json").read_text())
    assert (kept["num_beams"], kept["max_length"]) == (4, 12)
    assert json.loads((folder / "config.json").read_text())["num_beams"] is None
    assert model.config.num_beams == 4
    assert backend.cls("GPT2LMHeadModel").from_pretrained(folder).generation_config.num_beams == 4
