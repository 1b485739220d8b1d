"""config.json round-trips with transformers 4 and 5, and keeps what it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych import AutoConfig, BertConfig, ConfigError, PretrainedConfig
from triptych.errors import ArgumentError

FOLDERS = [
    "bert-mlm/pt-safetensors",
    "bert-mlm/pruned",
    "bert-cls/pt-safetensors",
    "bert-cls/tf-h5",
    "bert-cls/flax-msgpack",
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_config_of_transformers_4_comes_back_as_it_was(folder: str, golden: Path, tmp_path: Path) -> None:
    original = json.loads((golden / folder / "config.json").read_text())
    config = AutoConfig.from_pretrained(golden / folder)
    config.save_pretrained(tmp_path)
    original.pop("_name_or_path", None)  # where the author had the files: transformers 5 drops it too
    assert json.loads((tmp_path / "config.json").read_text()) == original


def test_transformers_5_reads_our_config_and_we_read_its(golden: Path, tmp_path: Path) -> None:
    import transformers

    ours = BertConfig.from_pretrained(
        golden / "bert-cls/pt-safetensors", architectures=["BertForSequenceClassification"]
    )
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.BertConfig.from_pretrained(tmp_path / "ours")
    for name in ("hidden_size", "id2label", "layer_norm_eps", "architectures", "pad_token_id", "tie_word_embeddings"):
        assert getattr(theirs, name) == getattr(ours, name), name
    theirs.save_pretrained(tmp_path / "theirs")
    again = BertConfig.from_pretrained(tmp_path / "theirs")
    assert {k: v for k, v in ours.to_dict().items() if k not in ("transformers_version", "torch_dtype")}.items() <= (
        again.to_dict().items()
    )


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    config = BertConfig(my_key={"a": [1]}, **{"no identifier": 1})
    config.save_pretrained(tmp_path)
    assert BertConfig.from_pretrained(tmp_path).my_key == {"a": [1]}
    assert json.loads((tmp_path / "config.json").read_text())["no identifier"] == 1


class Mapped(PretrainedConfig):
    model_type = "mapped"
    attribute_map = {"hidden_size": "n_embd"}

    def __init__(self, n_embd: int = 3, **kwargs: object) -> None:
        self.n_embd = n_embd
        super().__init__(**kwargs)


def test_attribute_map_reads_writes_and_constructs(tmp_path: Path) -> None:
    assert Mapped(hidden_size=5).n_embd == 5
    config = Mapped()
    config.hidden_size = 7
    assert (config.n_embd, config.hidden_size) == (7, 7)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["n_embd"] == 7
    assert Mapped.from_pretrained(tmp_path, hidden_size=9).n_embd == 9


def test_labels() -> None:
    config = BertConfig(num_labels=3)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    config.num_labels = 2
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1}
    named = BertConfig(id2label={"0": "no", "1": "yes"})
    named.num_labels = 2
    assert named.id2label == {0: "no", 1: "yes"}
    with pytest.raises(ConfigError, match="num_labels"):
        BertConfig(num_labels=3, id2label={0: "a"})


def test_pruned_heads_have_integer_keys(tmp_path: Path) -> None:
    BertConfig(pruned_heads={"0": [2, 1, 2]}).save_pretrained(tmp_path)
    assert BertConfig.from_pretrained(tmp_path).pruned_heads == {0: [1, 2]}


def test_keyword_overrides_and_unused(golden: Path) -> None:
    config, unused = BertConfig.from_pretrained(
        golden / "bert-cls/pt-safetensors", hidden_dropout_prob=0.5, num_labels=2, nonsense=1, return_unused_kwargs=True
    )
    assert (config.hidden_dropout_prob, config.num_labels, unused) == (0.5, 2, {"nonsense": 1})


def test_dtype_has_two_names() -> None:
    config = BertConfig(torch_dtype="torch.bfloat16")
    assert config.dtype == config.torch_dtype == "bfloat16"
    assert json.loads(config.to_json_string())["torch_dtype"] == "bfloat16"
    assert json.loads(BertConfig(dtype="float16").to_json_string())["dtype"] == "float16"


def test_update_is_all_or_nothing() -> None:
    config = BertConfig()
    config.update_from_string("hidden_size=24,use_cache=false")
    assert (config.hidden_size, config.use_cache) == (24, False)
    with pytest.raises(ConfigError):
        config.update({"vocab_size": 5, "hidden_size": -1})
    assert (config.vocab_size, config.hidden_size) == (30522, 24)
    with pytest.raises(ArgumentError, match="no_such"):
        config.update_from_string("no_such=1")


def test_an_unknown_model_type_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "martian"}')
    with pytest.raises(ConfigError, match="(?s)martian.*Remedy"):
        AutoConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="model_type"):
        AutoConfig.from_pretrained(tmp_path)


def test_subfolder(tmp_path: Path) -> None:
    BertConfig(hidden_size=24).save_pretrained(tmp_path / "sub")
    assert AutoConfig.from_pretrained(tmp_path, subfolder="sub").hidden_size == 24
    with pytest.raises(ArgumentError, match="leads out"):
        AutoConfig.from_pretrained(tmp_path / "sub", subfolder="../sub")


def test_register(tmp_path: Path) -> None:
    AutoConfig.register("mapped", Mapped, exist_ok=True)
    Mapped(4).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).n_embd == 4
    with pytest.raises(ArgumentError, match="taken"):
        AutoConfig.register("mapped", Mapped)
    with pytest.raises(ArgumentError, match="another type"):
        AutoConfig.register("other", Mapped)


class Opinionated(PretrainedConfig):
    model_type = "opinionated"

    def __init__(self, width: int, tie_word_embeddings: bool = False, **kwargs: object) -> None:
        self.width = width
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)


@pytest.mark.parametrize("tied", [True, False])
def test_a_class_without_defaults_writes_every_base_field(tied: bool, tmp_path: Path) -> None:
    Opinionated(3, tie_word_embeddings=tied).save_pretrained(tmp_path)
    again = Opinionated.from_pretrained(tmp_path)
    assert (again.width, again.tie_word_embeddings) == (3, tied)


def test_a_class_may_turn_a_default_around(tmp_path: Path) -> None:
    class Turned(Opinionated):
        model_type = "turned"

        def __init__(self, width: int = 1, **kwargs: object) -> None:
            super().__init__(width, **kwargs)  # type: ignore[arg-type]

    for tied in (True, False):
        Turned(tie_word_embeddings=tied).save_pretrained(tmp_path)
        assert Turned.from_pretrained(tmp_path).tie_word_embeddings is tied
