"""Rows of the contract about methods of configs, their files, and AutoConfig."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from composite_configs import BothConfig, SoundConfig, TextConfig, logged, reads, written
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
from triptych_conformance import Backend
from walk import row, state

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
