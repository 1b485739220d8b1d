"""Files as they lie in real repositories: old names, buffers, copies, and the config.json of real models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden_models import Golden
from quantised_files import LAYOUTS, quantised_folder
from small_models import config_of, random_folder, random_inputs
from triptych import (
    ArgumentError,
    AutoConfig,
    CheckpointError,
    ConfigError,
    InconsistentCheckpointError,
    TensorRef,
    UnsupportedFormatError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.families.t5 import T5Config
from triptych.families.t5.model import bucket_table
from triptych_conformance import Backend, assert_close

Arrays = dict[str, np.ndarray]


def changed(golden: Golden, folder: Path, change: Any) -> Path:
    """Copy the golden's checkpoint with other names and tensors."""
    arrays = change({name: ref.read() for name, ref in open_checkpoint(golden.folder).items()})
    refs = [TensorRef.of(name, array) for name, array in arrays.items()]
    save_checkpoint(folder, refs, (golden.folder / "config.json").read_text())
    return folder


def bert_of_tensorflow_1(arrays: Arrays) -> Arrays:
    def old(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    return {old(name): array for name, array in arrays.items()} | {
        "bert.embeddings.position_ids": np.arange(40)[None],
        "cls.predictions.decoder.weight": arrays["bert.embeddings.word_embeddings.weight"],
    }


def gpt2_of_2019(arrays: Arrays) -> Arrays:
    masks = {f"h.{i}.attn.bias": np.tril(np.ones((1, 1, 48, 48), np.float32)) for i in range(3)}
    masks |= {f"h.{i}.attn.masked_bias": np.array(-1e4, np.float32) for i in range(3)}
    return {name.removeprefix("transformer."): array for name, array in arrays.items()} | masks


def t5_with_copies(arrays: Arrays) -> Arrays:
    copies = {f"{stack}.embed_tokens.weight": arrays["shared.weight"] for stack in ("encoder", "decoder")}
    unused = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": np.ones((8, 4), np.float32)}
    return arrays | copies | unused


def t5_of_the_stacks_alone(arrays: Arrays) -> Arrays:
    copies = t5_with_copies(arrays)
    return {name: array for name, array in copies.items() if name != "shared.weight"}


def llama_of_2023(arrays: Arrays) -> Arrays:
    return arrays | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32) for i in range(3)}


OLD = {
    "bert-mlm": bert_of_tensorflow_1, "gpt2-lm": gpt2_of_2019, "t5-tied": t5_with_copies, "llama-gqa": llama_of_2023,
    "t5-v11": t5_of_the_stacks_alone,
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_old_names_are_known(backend: Backend, name: str, tmp_path: Path) -> None:
    golden = Golden(name)
    folder = changed(golden, tmp_path, OLD[name])
    assert set(open_checkpoint(folder)) != set(open_checkpoint(golden.folder))
    model, info = backend.load(golden.stem, folder, strict=True, output_loading_info=True)
    assert not any(info.values())
    outputs = backend.run(model, golden.inputs)["logits"]
    assert_close(outputs, golden.expected["out.logits"], golden.mask)


def test_names_are_exact(backend: Backend, tmp_path: Path) -> None:
    """A name that only contains a known one is no name."""
    golden = Golden("llama-gqa")
    folder = changed(golden, tmp_path, lambda a: a | {"model.layers.0.rotary_emb.inv_freq": np.ones(4, np.float32)})
    assert backend.load(golden.stem, folder).load_report.unexpected_keys == ["model.layers.0.rotary_emb.inv_freq"]


def test_copies_that_differ_are_refused(backend: Backend, tmp_path: Path) -> None:
    golden = Golden("t5-tied")

    def change(arrays: Arrays) -> Arrays:
        return arrays | {"encoder.embed_tokens.weight": arrays["shared.weight"] + 1}

    with pytest.raises(InconsistentCheckpointError, match=r"encoder.embed_tokens.weight unlike shared.weight"):
        backend.load(golden.stem, changed(golden, tmp_path, change))


@pytest.mark.parametrize("name", ["gpt2-lm", "t5-tied"])
def test_a_head_with_values_of_its_own_is_not_tied_away(backend: Backend, name: str, tmp_path: Path) -> None:
    golden = Golden(name)
    source = "transformer.wte.weight" if name == "gpt2-lm" else "shared.weight"
    folder = changed(golden, tmp_path / "in", lambda arrays: arrays | {"lm_head.weight": 2 * arrays[source]})
    model = backend.load(golden.stem, folder, strict=True)
    assert model.config.tie_word_embeddings is False
    logits = backend.run(model, golden.inputs)["logits"]
    assert_close(logits, 2 * golden.expected["out.logits"], golden.mask)
    model.save_pretrained(tmp_path / "out")
    again = backend.run(backend.load(golden.stem, tmp_path / "out", strict=True), golden.inputs)["logits"]
    assert np.array_equal(again, logits)


def test_bad_encoder_outputs_are_refused(backend: Backend) -> None:
    golden = Golden("t5-tied")
    model = backend.load(golden.stem, golden.folder)
    for bad in ((), {}, {"hidden_states": None}, {"a": 1}, 7):
        with pytest.raises(ArgumentError, match="encoder_outputs"):
            backend_call(backend, model, golden, bad)


def backend_call(backend: Backend, model: Any, golden: Golden, encoder_outputs: object) -> Any:
    ids = golden.inputs["decoder_input_ids"]
    if backend.name == "pt":
        import torch

        ids = torch.tensor(ids)
    return model(decoder_input_ids=ids, encoder_outputs=encoder_outputs)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("llama", {"head_dim": 2, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0,
                                    "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
        ("llama", {"rope_scaling": {"rope_type": "linear"}}),
        ("llama", {"rope_scaling": [1]}),
        ("llama", {"num_key_value_heads": 4}),
        ("llama", {"num_attention_heads": "6"}),
        ("qwen2", {"max_window_layers": "1"}),
        ("qwen2", {"layer_types": ["sliding_attention"]}),
        ("mistral", {"sliding_window": 0}),
        ("t5", {"feed_forward_proj": "gated-tanh"}),
        ("t5", {"relative_attention_num_buckets": 3}),
        ("t5", {"relative_attention_max_distance": 2}),
        ("gpt2", {"n_head": 5}),
        ("gpt2", {"is_causal": False}),
        ("bert", {"hidden_act": "swoosh"}),
    ],
    ids=str,
)  # fmt: skip
def test_impossible_configs_are_refused(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="(?s)Received|Expected"):
        config_of(kind, **fields)


SET_LATER = [
    ("bert", "BertForMaskedLM", "is_decoder", "yes"),
    ("bert", "BertForMaskedLM", "num_attention_heads", 5),
    ("electra", "ElectraModel", "hidden_act", "nonsense"),
    ("distilbert", "DistilBertModel", "pruned_heads", {7: [0]}),
    ("gpt2", "GPT2LMHeadModel", "is_causal", False),
    ("llama", "LlamaForCausalLM", "rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
    ("t5", "T5EncoderModel", "tie_encoder_decoder", True),
]


@pytest.mark.parametrize(("kind", "stem", "name", "value"), SET_LATER, ids=str)
def test_a_field_that_is_set_later_is_checked_by_every_framework(
    backend: Backend, kind: str, stem: str, name: str, value: object, tmp_path: Path
) -> None:
    folder = random_folder(tmp_path / "saved", config_of(kind), stem)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    cls, model, config = backend.cls(stem), backend.load(stem, folder), config_of(kind)
    setattr(config, name, value)
    setattr(model.config, name, value)
    for call in (
        lambda: cls(config),
        lambda: cls.from_config(config),
        lambda: backend.cls("AutoModel").from_config(config),
        lambda: cls.from_pretrained(folder, config=config),
        lambda: backend.cls("AutoModel").from_pretrained(folder, config=config),
        lambda: model.save_pretrained(folder),
        lambda: model.save_pretrained(tmp_path / "new"),
    ):
        with pytest.raises(ConfigError, match=name):
            call()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    assert not (tmp_path / "new").exists()


def test_scales_of_another_shape_than_the_config_says_are_refused(backend: Backend, tmp_path: Path) -> None:
    golden = Golden("llama-gqa")
    folder = quantised_folder(golden.folder, tmp_path, "fp8")  # a scale for each row, and blocks in the config
    for options in ({}, {"strict": False}):
        with pytest.raises(CheckpointError, match="(?s)not as its config says.*weight_scale_inv"):
            backend.load(golden.stem, folder, **options)


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one != "fp8"])
def test_quantised_weights_are_refused_by_every_framework(backend: Backend, layout: str, tmp_path: Path) -> None:
    golden = Golden("llama-gqa")
    folder = quantised_folder(golden.folder, tmp_path, layout)
    method = LAYOUTS[layout][0].get("quant_method", "bitsandbytes")
    config = AutoConfig.from_pretrained(folder)  # which is data
    for name in (golden.stem, "AutoModel", "AutoModelForCausalLM"):
        cls = backend.cls(name)
        for call in (
            lambda cls=cls: cls.from_pretrained(folder),
            lambda cls=cls: cls.from_pretrained(folder, config=config),
            lambda cls=cls: cls.from_pretrained(folder, strict=False),
            lambda cls=cls: cls.from_config(config),
        ):
            with pytest.raises(UnsupportedFormatError, match=f"(?s)quantised with {method}.*Remedy.*dequantise"):
                call()
    # A config that keeps silent: what is stored says it too, or weights are missing.
    for options in ({"config": AutoConfig.from_pretrained(golden.folder)}, {"quantization_config": None}):
        with pytest.raises((UnsupportedFormatError, CheckpointError), match="quantised|lacks|shape"):
            backend.load(golden.stem, folder, **options)
    model = backend.load(golden.stem, golden.folder)
    model.config.quantization_config = LAYOUTS[layout][0]
    with pytest.raises(UnsupportedFormatError, match=method):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_head_and_base_files_load_into_each_other(backend: Backend, tmp_path: Path) -> None:
    for kind, base, head in (("llama", "LlamaModel", "LlamaForCausalLM"), ("gpt2", "GPT2Model", "GPT2LMHeadModel"),
                             ("t5", "T5EncoderModel", "T5ForConditionalGeneration")):  # fmt: skip
        config = config_of(kind)
        folder = random_folder(tmp_path / kind, config, head)
        model = backend.load(base, folder)
        assert not model.load_report.missing_keys
        model.save_pretrained(tmp_path / f"{kind}-base")
        if kind == "t5":
            continue
        again = backend.load(head, tmp_path / f"{kind}-base")
        assert again.load_report.missing_keys == (["lm_head.weight"] if kind == "llama" else [])
        inputs = random_inputs(config)
        last = backend.run(again, inputs, output_hidden_states=True)[f"hidden_states.{config.num_hidden_layers}"]
        assert np.array_equal(last, backend.run(model, inputs)["last_hidden_state"])


REAL = {
    "bert": {"architectures": ["BertForMaskedLM"], "gradient_checkpointing": False, "hidden_size": 768,
             "position_embedding_type": "absolute", "transformers_version": "4.6.0.dev0", "type_vocab_size": 2},
    "roberta": {"architectures": ["RobertaForMaskedLM"], "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-05,
                "max_position_embeddings": 514, "type_vocab_size": 1, "vocab_size": 50265, "pad_token_id": 1},
    "distilbert": {"activation": "gelu", "tie_weights_": True, "sinusoidal_pos_embds": False, "dim": 768,
                   "seq_classif_dropout": 0.2, "output_past": True},
    "electra": {"embedding_size": 128, "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4,
                "summary_last_dropout": 0.1, "summary_use_proj": True},
    "gpt2": {"n_ctx": 1024, "n_embd": 768, "n_special": 0, "predict_special_tokens": True, "resid_pdrop": 0.1,
             "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}},
    "t5": {"architectures": ["T5WithLMHeadModel"], "d_model": 512, "n_positions": 512, "output_past": True,
           "task_specific_params": {"summarization": {"prefix": "summarize: "}}, "vocab_size": 32128},
    "llama": {"bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 128, "mlp_bias": False,
              "num_key_value_heads": 8, "pretraining_tp": 1, "rope_theta": 500000.0, "torch_dtype": "bfloat16",
              "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                               "original_max_position_embeddings": 8192, "rope_type": "llama3"}},
    "mistral": {"hidden_act": "silu", "num_key_value_heads": 8, "rope_theta": 1000000.0, "sliding_window": None},
    "qwen2": {"hidden_size": 896, "max_window_layers": 21, "num_attention_heads": 14, "num_hidden_layers": 24,
              "num_key_value_heads": 2, "sliding_window": 32768, "tie_word_embeddings": True,
              "use_sliding_window": False, "rope_theta": 1000000.0, "use_mrope": False},
    "qwen3": {"attention_bias": False, "head_dim": 128, "max_window_layers": 28, "num_key_value_heads": 8,
              "num_attention_heads": 16, "rope_scaling": None, "sliding_window": None, "use_sliding_window": False},
}  # fmt: skip
"""Keys as they stand in the config.json of well-known repositories, some of them long out of use."""


@pytest.mark.parametrize("kind", REAL)
def test_real_configs_are_read_and_come_back(kind: str, tmp_path: Path) -> None:
    import transformers

    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **REAL[kind]}))
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.model_type == kind
    assert all(getattr(config, name, config._unplaced.get(name)) == value for name, value in REAL[kind].items()
               if name not in ("torch_dtype", "sliding_window"))  # fmt: skip
    config.save_pretrained(tmp_path / "again")
    assert AutoConfig.from_pretrained(tmp_path / "again") == config
    theirs = transformers.AutoConfig.from_pretrained(tmp_path / "again")
    assert theirs.model_type == kind
    if kind == "llama":
        assert theirs.rope_parameters["rope_theta"] == 500000.0
        assert theirs.rope_parameters["factor"] == 8.0


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_configs_of_transformers_5_are_read(kind: str, tmp_path: Path) -> None:
    import transformers

    scaling = {"rope_type": "linear", "factor": 2.0, "rope_theta": 123.0}
    theirs = transformers.AutoConfig.for_model(kind, rope_parameters=scaling)
    theirs.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.rope_theta == 123.0
    assert config.rope_scaling == {"rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    ("buckets", "distance"), [(32, 128), (16, 64), (8, 128), (64, 256), (32, 20), (4, 12), (512, 5000)]
)
@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_are_those_of_transformers(buckets: int, distance: int, both_ways: bool) -> None:
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    from triptych.families.t5.model import buckets_of, relative_buckets
    from triptych_pt import ops

    queries, keys = torch.arange(300), torch.arange(distance + 300)
    theirs = T5Attention._relative_position_bucket(keys[None] - queries[:, None], both_ways, buckets, distance)
    config = T5Config(relative_attention_num_buckets=buckets, relative_attention_max_distance=distance)
    found = relative_buckets(ops, buckets_of(config, both_ways), queries, keys, both_ways)
    assert torch.equal(found.long(), theirs)
    assert bucket_table(buckets, distance).max() == buckets - 1
