"""Rows of the contract about generation configs, and a model's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from composite_configs import TINY, BothConfig, SoundConfig, TextConfig
from triptych import (
    ConfigError,
    GenerationConfig,
    GPT2Config,
    TriptychError,
)
from triptych.generation import CompileConfig, SynthIDTextWatermarkingConfig, WatermarkingConfig
from triptych_conformance import Backend
from walk import row

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
