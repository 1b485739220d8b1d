"""config.json round-trips with transformers 4 and 5, and keeps what it does not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from triptych import (
    AutoConfig,
    Axis,
    BertConfig,
    ConfigError,
    GenerationConfig,
    MissingFileError,
    PretrainedConfig,
    Qwen2Config,
    SaveError,
    SchemaBuilder,
    T5Config,
    TriptychError,
    open_checkpoint,
)
from triptych.config import positive_int
from triptych.errors import ArgumentError
from triptych.families import family, model_types

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
    differing = ("transformers_version", "torch_dtype", "_name_or_path")
    assert {k: v for k, v in ours.to_dict().items() if k not in differing}.items() <= again.to_dict().items()


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
        BertConfig.from_dict({}, num_labels=3, id2label={0: "a"})
    assert BertConfig(num_labels=3, id2label={0: "a"}).num_labels == 1


def test_what_is_set_too_early_is_set_again_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Early(PretrainedConfig):
        def __init__(self, **kwargs: Any) -> None:
            self.num_labels, self.pad_token_id = 3, 7
            super().__init__(**kwargs)

    assert (Early(num_labels=3).num_labels, Early(pad_token_id=7).pad_token_id) == (3, 7)
    assert [record.getMessage().split("`")[1] for record in caplog.records] == ["pad_token_id", "id2label"]
    caplog.clear()
    early = Early()
    assert (early.num_labels, early.pad_token_id) == (2, None) and not caplog.records  # once for each class


def test_pruned_heads_have_integer_keys(tmp_path: Path) -> None:
    BertConfig(pruned_heads={"0": [2, 1, 2]}).save_pretrained(tmp_path)
    assert BertConfig.from_pretrained(tmp_path).pruned_heads == {0: [1, 2]}


def test_keyword_overrides_and_unused(golden: Path) -> None:
    config, unused = BertConfig.from_pretrained(
        golden / "bert-cls/pt-safetensors", hidden_dropout_prob=0.5, num_labels=2, nonsense=1, return_unused_kwargs=True
    )
    assert (config.hidden_dropout_prob, config.num_labels, unused) == (0.5, 2, {"nonsense": 1})


def test_dtype_has_two_names() -> None:
    import torch

    config = BertConfig(torch_dtype="torch.bfloat16")
    assert config.dtype is config.torch_dtype is torch.bfloat16
    assert config.to_dict()["torch_dtype"] == "bfloat16"
    assert json.loads(config.to_json_string())["torch_dtype"] == "bfloat16"
    assert json.loads(BertConfig(dtype="float16").to_json_string())["dtype"] == "float16"


def test_update_is_all_or_nothing() -> None:
    config = BertConfig()
    config.update_from_string("hidden_size=24,use_cache=false")
    assert (config.hidden_size, config.use_cache) == (24, False)
    for text, value in (("yes", True), ("no", False), ("Y", True), ("N", False)):
        config.update_from_string(f"use_cache={text}")
        assert config.use_cache is value
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
    AutoConfig.register("mapped", Mapped)
    with pytest.raises(ArgumentError, match="taken"):
        AutoConfig.register("mapped", type("Mapped", (Mapped,), {}))
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


# -- fields that are set later ----------------------------------------------------------------------------------------

YARN = {"rope_type": "yarn", "factor": 2.0}
_OF_BERT = [("is_decoder", "yes"), ("add_cross_attention", 1), ("hidden_act", "nonsense"), ("num_attention_heads", 5),
            ("position_embedding_type", "relative_key"), ("classifier_dropout", 2)]  # fmt: skip
_OF_LLAMA = [("rope_scaling", YARN), ("rope_scaling", 5), ("rope_parameters", {**YARN, "rope_theta": 5.0}),
             ("rope_parameters", {"full_attention": {"rope_theta": 5.0}}), ("num_key_value_heads", 5),
             ("hidden_act", "nonsense"), ("pretraining_tp", 2), ("is_causal", False),
             ("partial_rotary_factor", 0.5)]  # fmt: skip
_OF_QWEN = [*_OF_LLAMA, ("layer_types", ["full_attention"]), ("layer_types", ["sliding_attention"] * 28)]
REFUSED: dict[str, list[tuple[str, Any]]] = {
    "bert": _OF_BERT,
    "roberta": _OF_BERT,
    "electra": [*_OF_BERT, ("embedding_size", 0)],
    "distilbert": [("n_heads", 5), ("num_attention_heads", 5), ("activation", "nonsense"), ("dropout", 2)],
    "gpt2": [("n_head", 5), ("activation_function", "x"), ("is_causal", False)],
    "llama": _OF_LLAMA,
    "mistral": [*_OF_LLAMA, ("sliding_window", 0)],
    "opt": [("num_attention_heads", 5), ("activation_function", "x"), ("layerdrop", 0.1), ("is_causal", False),
            ("word_embed_proj_dim", 0), ("do_layer_norm_before", "false"), ("enable_bias", None),
            ("_remove_final_layer_norm", 1), ("layer_norm_elementwise_affine", 0)],
    "qwen2": _OF_QWEN,
    "qwen3": _OF_QWEN,
    "t5": [("feed_forward_proj", "x"), ("feed_forward_proj", {"a": 1}), ("relative_attention_num_buckets", 3),
           ("relative_attention_max_distance", 2), ("relative_attention_max_distance", 2**31 - 1),
           ("num_decoder_layers", 0), ("tie_encoder_decoder", True), ("is_causal", False)],
}  # fmt: skip
EVERYWHERE = [("num_hidden_layers", 0), ("num_hidden_layers", 2**31 - 1), ("num_attention_heads", 2**31 - 1),
              ("vocab_size", 2**31), ("problem_type", "x"), ("id2label", 5), ("id2label", {"x": "y"}),
              ("id2label", {"0": [1]}), ("label2id", 5), ("pruned_heads", 5), ("pruned_heads", {"0": "12"}),
              ("pruned_heads", {0: [99]}), ("pruned_heads", {0: [-1]}), ("pruned_heads", {99: [0]}),
              ("pruned_heads", {-99: [0]}), ("tf_legacy_loss", True)]  # fmt: skip
CASES = [(kind, *case) for kind, cases in REFUSED.items() for case in [*cases, *EVERYWHERE]]


@pytest.mark.parametrize(("kind", "name", "value"), CASES, ids=str)
def test_a_field_is_checked_at_creation_and_when_it_is_set_later(
    kind: str, name: str, value: Any, tmp_path: Path
) -> None:
    cls = family(kind).config_class
    with pytest.raises(ConfigError, match="(?s)Expected|Received"):
        cls.from_dict({name: value})
    config = cls()
    with pytest.raises(ConfigError, match="(?s)Expected|Received"):
        setattr(config, name, value)  # only a property may refuse already here
        config.save_pretrained(tmp_path / "folder")
    with pytest.raises(ConfigError, match="(?s)Expected|Received"):
        setattr(config, name, value)
        config.to_json_file(tmp_path / "config.json")
    assert list(tmp_path.iterdir()) == []


class Fussy(PretrainedConfig):
    model_type = "fussy"

    def __init__(self, width: int = 1, inner: Any = None, **kwargs: Any) -> None:
        self.width = width
        self.text_config = Mapped(inner) if isinstance(inner, int) else inner
        super().__init__(**kwargs)

    def validate(self) -> None:  # without super(): the configs that it holds are checked all the same
        if self.width > 3:
            raise ConfigError("`width` is too large.")


class Checked(PretrainedConfig):
    model_type = "checked"
    checks = {"width": positive_int}

    def __init__(self, width: int = 1, **kwargs: Any) -> None:
        self.width = width
        super().__init__(**kwargs)


@pytest.mark.parametrize("cls", [Fussy, Checked])
def test_a_class_of_ones_own_is_checked_by_its_own_rules(cls: Any, tmp_path: Path) -> None:
    config = cls()
    config.width = 4 if isinstance(config, Fussy) else 0
    with pytest.raises(ConfigError, match="width"):
        config.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_config_within_a_config_is_checked_and_written(tmp_path: Path) -> None:
    config = Fussy(inner=BertConfig(hidden_size=24))
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["text_config"]["hidden_size"] == 24
    config.text_config.hidden_act = "nonsense"
    for write in (config.save_pretrained, lambda folder: config.to_json_file(folder / "config.json")):
        with pytest.raises(ConfigError, match="hidden_act"):
            write(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["text_config"]["hidden_act"] == "gelu"


def test_what_may_be_set_later_is_written_as_at_creation() -> None:
    import torch

    config = BertConfig()
    config.dtype, config.id2label, config.pruned_heads = torch.float16, {"0": "a", "1": "b"}, {"-1": (1,)}
    config._validate_whole()
    assert (config.dtype, config.id2label, config.pruned_heads) == (torch.float16, {0: "a", 1: "b"}, {11: [1]})
    config = family("llama").config_class()
    config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5.0}
    assert (config.rope_theta, config.rope_scaling) == (5.0, {"rope_type": "linear", "factor": 2.0})
    assert config.rope_parameters == {"rope_type": "linear", "factor": 2.0, "rope_theta": 5.0}
    assert "rope_parameters" not in config.to_dict()


@pytest.mark.parametrize("value", [object, {1: 2, "a": 3}], ids=repr)
def test_what_json_cannot_hold_is_refused(value: object, tmp_path: Path) -> None:
    config = BertConfig()
    config.mine = value
    with pytest.raises(ConfigError, match="JSON"):
        config.save_pretrained(tmp_path / "folder")


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), {"a": [float("inf")]}], ids=repr)
def test_numbers_that_are_not_finite_are_written_and_read(value: object, tmp_path: Path) -> None:
    BertConfig(mine=value).save_pretrained(tmp_path)
    assert repr(BertConfig.from_pretrained(tmp_path).mine) == repr(value)


def test_what_transformers_5_writes_for_infinity_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"mine": {"__float__": "-Infinity"}, "other": {"__float__": "x"}}')
    config = BertConfig.from_pretrained(tmp_path)
    assert (config.mine, config.other) == (-float("inf"), {"__float__": "x"})


def test_update_undoes_also_what_is_no_field() -> None:
    config = BertConfig()
    with pytest.raises(AttributeError):
        config.update({"vocab_size": 5, "head_dim": 3})
    assert config.vocab_size == 30522


def test_groups_of_heads_are_checked_with_the_config() -> None:
    config = family("llama").config_class(num_attention_heads=4, num_key_value_heads=2)
    config.pruned_heads = {-1: [0]}
    with pytest.raises(ConfigError, match="groups of different sizes"):
        config.validate()


@pytest.mark.parametrize("use", [True, False])
def test_a_window_that_is_turned_off_later_is_off(use: bool) -> None:
    config = Qwen2Config(use_sliding_window=True, sliding_window=7, max_window_layers=1)
    config.use_sliding_window = use
    assert [config.window(layer) for layer in (0, 1)] == [None, 7 if use else None]


def test_every_field_of_opt_is_written_and_read_as_transformers_does(tmp_path: Path) -> None:
    import transformers

    fields = {"_remove_final_layer_norm": True, "word_embed_proj_dim": 512, "init_std": 0.5}
    cls = family("opt").config_class
    for saver, reader in ((cls, transformers.OPTConfig), (transformers.OPTConfig, cls), (cls, cls)):
        saver(**fields).save_pretrained(tmp_path / saver.__module__)
        read = reader.from_pretrained(tmp_path / saver.__module__)
        assert {name: getattr(read, name) for name in fields} == fields
    assert cls(**fields) != cls(**{**fields, "_remove_final_layer_norm": False})
    assert (cls(hidden_size=24).word_embed_proj_dim, cls(initializer_range=0.5).init_std) == (24, 0.5)


# -- fields that follow from others -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"dense_act_fn": "silu"},
        {"is_gated_act": True},
        {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"},
    ],
    ids=str,
)
def test_what_follows_from_feed_forward_proj_cannot_contradict_it(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="feed_forward_proj"):
        T5Config(**fields)
    given = {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True}
    config = T5Config(**given)
    assert given.items() <= config.to_dict().items()
    config.feed_forward_proj = "relu"
    with pytest.raises(ConfigError, match="dense_act_fn"):
        config.validate()


def test_torchscript_means_tuples() -> None:
    assert [BertConfig(torchscript=t, return_dict=d).use_return_dict for t, d in
            [(False, True), (True, True), (False, False)]] == [True, False, False]  # fmt: skip


# -- layers and heads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_layers_to_prune_are_counted_from_the_end_too(kind: str, tmp_path: Path) -> None:
    """As in transformers 4.48.3, which writes the numbers as they were given. T5 counts its attentions through."""
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = family(kind).config_class.from_dict(sizes)
    last = {"t5": 5}.get(kind, 1)
    for layer in (-1, -last - 1, last):
        config.pruned_heads = {str(layer): [0, 1]}
        config.save_pretrained(tmp_path)
        assert family(kind).config_class.from_pretrained(tmp_path).pruned_heads == {layer % (last + 1): [0, 1]}
    config.pruned_heads = {last: [0], -1: [1]}
    config.validate()
    assert config.pruned_heads == {last: [0, 1]}
    for missing in (-last - 2, last + 1):
        config.pruned_heads = {missing: [0]}
        with pytest.raises(ConfigError, match=rf"layer {missing}.*-{last + 1} to {last}"):
            config.validate()


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_the_largest_numbers_of_layers_and_heads_cost_little(kind: str) -> None:
    sizes = {"num_hidden_layers": 10_000, "num_attention_heads": 10_000, "num_key_value_heads": 5_000}
    config = family(kind).config_class.from_dict({**sizes, "hidden_size": 20_000})
    schema = family(kind).schema(config, family(kind).classes[""])
    assert len(schema) > 90_000
    assert sum(len(axis.ids or ()) for weight in schema.values() for axis in weight.axes) == 0


def test_a_schema_without_end_is_refused() -> None:
    build, width = SchemaBuilder(), Axis("hidden", 3)
    with pytest.raises(ConfigError, match=r"(?s)262,144.*layers\.\d+"):
        for layer in range(2**31 - 1):
            build.under(f"layers.{layer}").rms_norm("norm", width)


def test_numbers_of_labels() -> None:
    for count in (0, -1, 1_000_001, 2**31 - 1, "3", True):
        with pytest.raises(ConfigError, match="num_labels"):
            BertConfig(num_labels=count)
    config = BertConfig(num_labels=3)
    with pytest.raises(ConfigError, match="num_labels"):
        config.num_labels = 2**31 - 1
    assert config.num_labels == 3


def test_labels_by_name_are_kept_beside_default_names(tmp_path: Path) -> None:
    config = BertConfig()
    config.label2id = {"no": 0, "yes": 1}
    config.save_pretrained(tmp_path)
    assert BertConfig.from_pretrained(tmp_path).label2id == {"no": 0, "yes": 1}


# -- keys and values that anybody may have written --------------------------------------------------------------------

ODD_KEYS = ("self", "__class__", "kwargs", "extra", "to_dict", "from_pretrained", "checks", "rope_parameters")
ODD_VALUES = (None, True, -1, 1.5, 2**31 - 1, 10**400, float("nan"), "x", [1], {"a": 1}, [[1]])


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_with_a_name_of_python_is_kept(key: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", key: {"a": 1}}))
    for config in (AutoConfig.from_pretrained(tmp_path), BertConfig.from_json_file(tmp_path / "config.json")):
        config.save_pretrained(tmp_path / "again")
        assert json.loads((tmp_path / "again/config.json").read_text())[key] == {"a": 1}


@pytest.mark.parametrize("kind", sorted(set(REFUSED) & set(model_types())))
def test_any_value_of_any_key_is_taken_or_refused_by_a_config_error(kind: str) -> None:
    cls, stem = family(kind).config_class, family(kind).classes[""]
    small = {"num_hidden_layers": 2}
    taken = refused = 0
    for key in (*cls().to_dict(), *ODD_KEYS, "num_labels", "torch_dtype", "architectures", "is_causal"):
        for value in ODD_VALUES:
            values: Mapping[str, Any] = {**small, cls.attribute_map.get(key, key): value}
            try:
                config = cls.from_dict(values)
                family(kind).schema(config, stem)
                written = json.loads(config.to_json_string())
            except ConfigError:
                refused += 1
                continue
            taken += 1
            assert cls.from_dict(written).to_json_string() == config.to_json_string()
    assert taken > 100 and refused > 100


# -- folders and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [None, "", 7, b"x", "/no/such/folder"])
def test_a_path_that_is_none(path: object) -> None:
    for load in (open_checkpoint, BertConfig.from_pretrained):
        with pytest.raises(TriptychError, match="(?s)Expected: .*Received: .*Remedy: "):
            load(path)  # type: ignore[operator]


@pytest.mark.parametrize("make", [BertConfig, GenerationConfig], ids=lambda make: make.__name__)
@pytest.mark.parametrize("path", [None, "", 7, b"x", []], ids=repr)
def test_a_path_to_write_that_is_none(make: Any, path: object) -> None:
    for write in (make().save_pretrained, make().to_json_file):
        with pytest.raises(ArgumentError, match="is no path"):
            write(path)


@pytest.mark.parametrize("fields", [None, 7, "x", ["x"], {1: 2}], ids=repr)
def test_fields_that_are_none(fields: Any) -> None:
    for take in (BertConfig.from_dict, BertConfig().update, GenerationConfig.from_dict):
        with pytest.raises(ArgumentError, match="no fields of a config"):
            take(fields)


def test_a_folder_where_the_file_should_be_is_a_save_error(tmp_path: Path) -> None:
    for config in (BertConfig(), GenerationConfig()):
        with pytest.raises(SaveError):
            config.to_json_file(tmp_path)
    assert not list(tmp_path.iterdir())


IMPOSSIBLE: list[dict[str, Any]] = [
    {"top_k": "x"},
    {"penalty_alpha": [1]},
    {"num_beam_groups": 1.5},
    {"watermarking_config": {"greenlist_ratio": "x"}},
    {"watermarking_config": {"context_width": None}},
    {"watermarking_config": {"ngram_len": 2, "keys": [1], "sampling_table_size": "x"}},
]


@pytest.mark.parametrize("given", IMPOSSIBLE, ids=repr)
def test_impossible_parameters_of_generation_change_nothing(given: dict[str, Any]) -> None:
    config = GenerationConfig()
    for take in (GenerationConfig, config.update):
        with pytest.raises(ConfigError):
            take(**given)
    assert config == GenerationConfig()


def test_missing_config_is_not_a_default_config(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(MissingFileError, match=r"(?s)config.json.*Expected.*README.md.*Remedy"):
        BertConfig.from_pretrained(tmp_path)
    assert issubclass(MissingFileError, OSError)


BAD_CONFIGS = [
    "", "[]", "{", '{"a": 1, "a": 2}', '{"layer_norm_eps": Infinity}', '{"x": 1e999}', '{"x": ' + "9" * 5000 + "}",
    '{"x": ' + "[" * 100_000, "\xff", '{"vocab_size": "16"}', '{"vocab_size": 16.5}', '{"vocab_size": true}',
    '{"vocab_size": null}', '{"vocab_size": [16]}', '{"vocab_size": -16}', '{"vocab_size": 0}',
    '{"vocab_size": 1099511627776}', '{"hidden_size": 7, "num_attention_heads": 2}', '{"hidden_act": "evil"}',
    '{"id2label": 3}', '{"id2label": {"x": "y"}}', '{"pruned_heads": 3}', '{"pruned_heads": {"0": 3}}',
    '{"problem_type": "x"}', '{"num_labels": -1}', '{"position_embedding_type": "relative_key"}',
    '{"hidden_dropout_prob": 2}', '{"layer_norm_eps": "a"}',
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_CONFIGS, ids=lambda text: text[:24])
def test_a_bad_config_is_one_config_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError):
        BertConfig.from_pretrained(tmp_path)


def test_a_config_is_data(tmp_path: Path) -> None:
    hostile = {"__class__": "x", "to_dict": 1, "from_pretrained": "y", "auto_map": {"AutoModel": "evil.Model"},
               "_attn_implementation_internal": "evil/repo", "trust_remote_code": True,
               "model_type": "bert"}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(hostile))
    config = BertConfig.from_pretrained(tmp_path)
    assert callable(config.to_dict)
    assert type(config) is BertConfig
    kept = config.to_dict()
    assert {name: kept[name] for name in hostile if not name.startswith("_attn")} == {
        n: v for n, v in hostile.items() if not n.startswith("_attn")
    }
