"""Rows of the contract about fields and properties of configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from composite_configs import BothConfig, NeedyConfig, TextConfig, logged, reads, written
from triptych import (
    ConfigError,
    PretrainedConfig,
)
from triptych_conformance import Backend
from walk import row


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
