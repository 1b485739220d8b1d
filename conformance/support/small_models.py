"""A small config of every built-in family, with all that is odd about it, and a random checkpoint of any class.

Epsilons are large and activations unusual, so that outputs show which are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from triptych import PretrainedConfig, Schema, TensorRef, save_checkpoint
from triptych.families import declared_schema, family, model_types

BERT = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10,
            max_position_embeddings=16, num_labels=4, layer_norm_eps=0.02, hidden_act="silu")  # fmt: skip
LLAMA = dict(vocab_size=31, hidden_size=18, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3,
             head_dim=4, intermediate_size=10, max_position_embeddings=32, num_labels=4, pad_token_id=0,
             rms_norm_eps=0.02)  # fmt: skip
T5 = dict(vocab_size=31, d_model=12, d_kv=5, d_ff=10, num_layers=2, num_decoder_layers=3, num_heads=3,
          relative_attention_num_buckets=8, relative_attention_max_distance=12, layer_norm_epsilon=0.02)  # fmt: skip
GPT2 = dict(vocab_size=31, n_embd=12, n_layer=2, n_head=3, n_positions=16, num_labels=4, pad_token_id=0,
            layer_norm_epsilon=0.02)  # fmt: skip
OPT = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, ffn_dim=10,
           max_position_embeddings=16, num_labels=4, word_embed_proj_dim=8)  # fmt: skip
BIASES = {"attention_bias": True, "mlp_bias": True}
"""Not all families of Llama's blocks heed them."""
SMALL: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "distilbert": dict(vocab_size=31, dim=12, n_layers=2, n_heads=3, hidden_dim=10, max_position_embeddings=16,
                       num_labels=4),
    "electra": {**BERT, "embedding_size": 8},
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": {**LLAMA, **BIASES, "sliding_window": 4},
    "opt": OPT,
    "qwen2": {**LLAMA, **BIASES, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    "qwen3": {**LLAMA, **BIASES, "head_dim": 6},
    "roberta": {**BERT, "max_position_embeddings": 18},
    "t5": T5,
}  # fmt: skip
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in SMALL},
    "bert, decoder": ("bert", {"is_decoder": True, "add_cross_attention": True}),
    "roberta, decoder": ("roberta", {"is_decoder": True, "add_cross_attention": True}),
    "electra, decoder": ("electra", {"is_decoder": True, "add_cross_attention": True}),
    "electra of one width": ("electra", {"embedding_size": 12}),
    "gpt2, odd scales": ("gpt2", {"n_inner": 7, "scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False,
                                  "activation_function": "relu"}),
    "gpt2, over an encoder": ("gpt2", {"add_cross_attention": True, "scale_attn_by_inverse_layer_idx": True}),
    "llama, biases, tied": ("llama", {**BIASES, "hidden_act": "gelu", "tie_word_embeddings": True}),
    "llama, linear": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.5}}),
    "llama, dynamic": ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 3.0},
                                 "max_position_embeddings": 6}),
    "llama, llama3": ("llama", {"rope_theta": 500.0, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16}}),
    "llama, one key head": ("llama", {"num_key_value_heads": 1}),
    "opt, norms after": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": None}),
    "opt, no final norm, biases, shifts": ("opt", {
        "_remove_final_layer_norm": True, "enable_bias": False, "layer_norm_elementwise_affine": False,
        "activation_function": "gelu", "tie_word_embeddings": False}),
    "t5, gated-gelu, untied": ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5, gated-silu": ("t5", {"feed_forward_proj": "gated-silu", "num_decoder_layers": 1}),
}  # fmt: skip


def config_of(variant: str, stem: str = "", **changes: Any) -> PretrainedConfig:
    """Return the config of a variant, for a class."""
    kind, options = VARIANTS[variant]
    if stem.endswith("QuestionAnswering"):
        changes["num_labels"] = 2
    if stem.endswith("Classification"):
        changes.setdefault("num_labels", 4)
    return family(kind).config_class(**{**SMALL[kind], **options, **changes})


def stems_of(variant: str) -> list[str]:
    """Return the classes of a variant's family, each once; of an encoder as a decoder, those that decode."""
    kind, options = VARIANTS[variant]
    classes = family(kind).classes
    tasks = ("", "CausalLM") if "is_decoder" in options else classes
    return list(dict.fromkeys(classes[task] for task in tasks))


CLASSES = [(variant, stem) for variant in VARIANTS for stem in stems_of(variant)]
PLAIN = [(kind, stem) for kind in model_types() if kind in SMALL for stem in stems_of(kind)]


def random_folder(folder: Path, config: PretrainedConfig, stem: str, seed: int = 0) -> Path:
    """Save a checkpoint of class `stem` whose every value is random: biases and norms too."""
    schema = declared_schema(config, stem)
    assert isinstance(schema, Schema)
    rng = np.random.default_rng(seed)
    arrays = {w.name: 0.3 * rng.standard_normal(w.shape) + ("norm" in w.layout) for w in schema.stored()}
    refs = [TensorRef.of(name, array.astype(np.float32)) for name, array in arrays.items()]
    config.architectures = [stem]
    save_checkpoint(folder, refs, config.to_json_string())
    return folder


def random_inputs(config: PretrainedConfig, seed: int = 0, batch: int = 2, length: int = 11) -> dict[str, np.ndarray]:
    """Return ids without padding, and an attention mask that ends with some zeros in the last text."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(3, config.vocab_size, (batch, length))
    mask = np.ones((batch, length), np.int64)
    mask[-1, length - 3 :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs


def inputs_of(stem: str, config: PretrainedConfig) -> dict[str, np.ndarray]:
    """Return what a class reads: `random_inputs`, for multiple choice as one question; and what its decoder reads."""
    inputs = {**random_inputs(config), **decoder_inputs(stem, config)}
    if stem.endswith("MultipleChoice"):
        return {name: array[None] for name, array in inputs.items()}
    if config.add_cross_attention and stem.endswith(("Model", "ForCausalLM")) and "DoubleHeads" not in stem:
        mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
        states = np.random.default_rng(8).standard_normal((2, 5, config.hidden_size)).astype(np.float32)
        inputs |= {"encoder_hidden_states": states, "encoder_attention_mask": mask}
    return inputs


def mask_of(inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return the attention mask with a row for each text, [B, Q]."""
    mask = inputs["attention_mask"]
    return mask.reshape(-1, mask.shape[-1])


def decoder_inputs(stem: str, config: PretrainedConfig) -> dict[str, np.ndarray]:
    """Return what the decoder of an encoder-decoder class reads; of one that looks for their ends, texts that end."""
    rng = np.random.default_rng(9)
    if not config.is_encoder_decoder or stem.endswith(("EncoderModel", "TokenClassification")):
        return {}
    if stem.endswith("SequenceClassification"):
        ids = rng.integers(3, 20, (2, 11))
        ids[:, [2, 6]] = config.eos_token_id
        return {"input_ids": ids}
    return {"decoder_input_ids": rng.integers(3, config.vocab_size, (2, 7))}


def labelled_inputs(stem: str, config: PretrainedConfig) -> dict[str, np.ndarray]:
    """Return what a class reads while it is trained: `inputs_of`, in which some ids are padding, one of them seen; and
    labels, of which some do not count."""
    inputs, pad = inputs_of(stem, config), config.pad_token_id
    inputs["attention_mask"][..., -3] = 1  # with a sliding window the last query would see nothing
    if stem.endswith("DoubleHeadsModel"):  # which chooses among texts, too
        inputs = {name: array[None] for name, array in inputs.items()}
    if pad is not None and not config.is_encoder_decoder:
        inputs["input_ids"] = np.where(inputs["attention_mask"] == 1, inputs["input_ids"], pad)
        inputs["input_ids"][..., 0, 3] = pad
    return inputs | labels_of(stem, config, inputs)


def labels_of(stem: str, config: PretrainedConfig, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return random labels for the inputs of a class, by argument name; of a model without a head none."""
    rng, ids = np.random.default_rng(5), inputs.get("decoder_input_ids", inputs["input_ids"])

    def of_tokens(count: int) -> np.ndarray:
        return np.where(rng.random(ids.shape) < 0.3, -100, rng.integers(0, count, ids.shape))

    words = getattr(config, "vocab_size", 0)
    if stem.endswith("QuestionAnswering"):
        return {"start_positions": np.array([1, 20]), "end_positions": np.array([4, 2])}
    if stem.endswith("MultipleChoice"):
        return {"labels": np.array([1])}
    if stem.endswith("NextSentencePrediction"):
        return {"labels": np.array([1, 0])}
    if stem.endswith("SequenceClassification"):
        return {"labels": _of_texts(rng, config)}
    if stem.endswith("TokenClassification"):
        return {"labels": of_tokens(config.num_labels)}
    if stem == "BertForPreTraining":
        return {"labels": of_tokens(words), "next_sentence_label": np.array([1, 0])}
    if stem == "ElectraForPreTraining":
        return {"labels": rng.integers(0, 2, ids.shape)}
    if stem == "GPT2DoubleHeadsModel":
        return {"labels": of_tokens(words), "mc_labels": np.array([1])}
    return {"labels": of_tokens(words)} if stem.endswith(("LM", "LMHeadModel", "ConditionalGeneration")) else {}


def _of_texts(rng: np.random.Generator, config: PretrainedConfig) -> np.ndarray:
    """Return the labels of two texts, as the loss that a config asks for compares with."""
    if config.num_labels == 1:
        return rng.standard_normal(2).astype(np.float32)
    if config.problem_type == "multi_label_classification":
        return rng.integers(0, 2, (2, config.num_labels)).astype(np.float32)
    return rng.integers(0, config.num_labels, 2)


LABELLED = [(kind, stem) for kind, stem in PLAIN if "For" in stem or "Head" in stem]


def labels_for(stem: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return random labels of the kind that a class takes; some do not count."""
    rng = np.random.default_rng(5)
    if stem.endswith("SequenceClassification"):
        return {"labels": np.array([3, 1])}
    if stem.endswith("QuestionAnswering"):
        return {"start_positions": np.array([1, 4]), "end_positions": np.array([2, 6])}
    if stem == "T5ForConditionalGeneration":
        return {"labels": rng.integers(3, 31, (2, 7))}
    if stem.endswith("MultipleChoice"):
        return {"labels": np.array([1])}
    if stem.endswith("NextSentencePrediction"):
        return {"labels": np.array([1, 0])}
    if stem == "BertForPreTraining":
        labels = rng.integers(0, 31, inputs["input_ids"].shape)
        return {"labels": labels, "next_sentence_label": np.array([0, 1])}
    if stem == "GPT2DoubleHeadsModel":
        return {"labels": rng.integers(3, 31, inputs["input_ids"].shape), "mc_labels": np.array([1])}
    if stem.endswith("PreTraining"):
        return {"labels": rng.integers(0, 2, inputs["input_ids"].shape)}
    classes = 4 if stem.endswith("TokenClassification") else 31
    labels = rng.integers(0, classes, inputs["input_ids"].shape)
    labels[0, :3] = -100
    return {"labels": labels}
