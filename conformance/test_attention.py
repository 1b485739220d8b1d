""" "sdpa" and "eager": one result and one gradient in every framework, and no scores of all heads in memory at once."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_models import config_of, random_folder
from triptych import ArgumentError, BertConfig
from triptych.names import BACKENDS as BACKEND_PACKAGES
from triptych.nn import attention, blocks
from triptych_conformance import Backend, assert_close, compare

KINDS = {
    "bert": "BertForMaskedLM", "bert, decoder": "BertLMHeadModel", "distilbert": "DistilBertForMaskedLM",
    "electra": "ElectraForMaskedLM", "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "opt": "OPTForCausalLM",
    "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "roberta": "RobertaForMaskedLM",
}  # fmt: skip
LENGTH = 2 * blocks.SIZE + 9
LONG = {"max_position_embeddings": LENGTH + 3}


def _inputs(batch: int = 2) -> dict[str, np.ndarray]:
    mask = np.ones((batch, LENGTH), np.int32)
    mask[-1, :5] = 0
    return {"input_ids": np.random.default_rng(0).integers(3, 31, (batch, LENGTH)), "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_both_give_the_same_outputs(backend: Backend, kind: str, tmp_path: Path) -> None:
    stem, inputs = KINDS[kind], _inputs()
    folder = random_folder(tmp_path, config_of(kind, stem, **LONG), stem)
    fused = backend.load(stem, folder)
    eager = backend.load(stem, folder, attn_implementation="eager")
    assert (fused.config._attn_implementation, eager.config._attn_implementation) == ("sdpa", "eager")
    expected = backend.run(eager, inputs)["logits"]
    assert_close(backend.run(fused, inputs)["logits"], expected, inputs["attention_mask"], "logits")
    if backend.name == "pt":  # which is told that it is causal, where no mask says more
        whole = {"input_ids": inputs["input_ids"]}
        assert_close(backend.run(fused, whole)["logits"], backend.run(eager, whole)["logits"])
    shown = backend.run(fused, {"input_ids": inputs["input_ids"][:, :7]}, output_attentions=True)
    assert shown["attentions.1"].shape[2:] == (7, 7)


def _arrays(backend: Backend, *shapes: tuple[int, ...]) -> tuple[Any, Any, list[Any]]:
    package = BACKEND_PACKAGES[backend.name][0]
    ops, arrays = (import_module(f"{package}.{module}") for module in ("ops", "arrays"))
    rng = np.random.default_rng(1)
    return ops, arrays, [arrays.to_native(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]


class Still:
    """Dropout that drops nothing."""

    rate = p = 0.0
    training = False

    def __call__(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize("rows", [1, LENGTH], ids=["of keys", "of queries and keys"])
def test_gradients_are_those_of_plain_attention(backend: Backend, rows: int) -> None:
    ops, arrays, [query, key, value] = _arrays(backend, (2, 4, LENGTH, 3), (2, 2, 20, 3), (2, 2, 20, 3))
    seen = np.random.default_rng(2).integers(0, 2, (2, 1, rows, 20))
    bias = arrays.to_native(np.where(seen, 0, np.finfo(np.float32).min).astype(np.float32))

    def fused(*heads: Any) -> Any:
        return ops.fused_attention(*heads, bias, 0.5, Still())

    def plain(*heads: Any) -> Any:
        return blocks.weighted(ops, *heads, bias, 0.5)[0]

    found, expected = (_gradients(backend.name, function, [query, key, value]) for function in (fused, plain))
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


def _gradients(name: str, function: Any, inputs: list[Any]) -> list[np.ndarray]:
    """Return the result of `function`, and the gradient of the sum of its squares, compiled where that is possible."""
    if name == "pt":
        heads = [x.clone().requires_grad_() for x in inputs]
        result = function(*heads)
        (result**2).sum().backward()
        return [result.detach().numpy(), *(x.grad.numpy() for x in heads)]
    if name == "flax":
        import jax

        def loss(heads: list[Any]) -> Any:
            result = function(*heads)
            return (result**2).sum(), result

        (_, result), found = jax.jit(jax.value_and_grad(loss, has_aux=True))(inputs)
        return [np.asarray(x) for x in (result, *found)]
    import tensorflow as tf

    def run(*heads: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(heads)
            result = function(*heads)
            loss = tf.reduce_sum(result**2)
        return result, *tape.gradient(loss, heads)

    found = run(*inputs)
    free = [tf.TensorSpec((None, x.shape[1], None, x.shape[3])) for x in inputs]
    graphs = [tf.function(run, input_signature=free, jit_compile=compiled) for compiled in (False, True)]
    for one in (*graphs, tf.function(run, jit_compile=True)):
        for x, y in zip(one(*inputs), found, strict=True):
            assert_close(x.numpy(), y.numpy())
    return [x.numpy() for x in found]


def test_no_scores_of_all_queries_are_kept(backend: Backend) -> None:
    length = 16 * blocks.SIZE
    if backend.name == "pt":
        return _kept_by_pytorch()
    ops, _, heads = _arrays(backend, *[(1, 4, length, 8)] * 3)
    _, _, [bias] = _arrays(backend, (1, 1, length, length))
    scores = 4 * 4 * length**2  # of all heads, in bytes
    if backend.name == "flax":
        import jax

        def loss(*heads: Any) -> Any:
            return ops.fused_attention(*heads, bias, 0.5, Still()).sum()

        compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*heads).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < scores / 2
        return None
    largest = _largest_array_of_tensorflow(lambda *x: ops.fused_attention(*x, bias, 0.5, Still()), heads)
    assert largest < scores / 2
    return None


def _largest_array_of_tensorflow(function: Any, heads: list[Any]) -> int:
    """Return the bytes of the largest array that a graph for the gradient, with those that it calls, has."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(x.shape) for x in heads])
    def gradients(*heads: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(heads)
            loss = tf.reduce_sum(function(*heads))
        return tape.gradient(loss, heads)

    graph = gradients.get_concrete_function().graph
    graphs = [graph, *(found.graph for found in graph._functions.values() if hasattr(found, "graph"))]
    sizes = [
        4 * out.shape.num_elements()
        for one in graphs for node in one.get_operations() for out in node.outputs
        if out.shape.is_fully_defined()
    ]  # fmt: skip
    return int(max(sizes))


def _kept_by_pytorch() -> None:
    import torch

    kept: list[int] = []
    query, key, value = (torch.randn(1, 4, 512, 8, requires_grad=True) for _ in range(3))
    config = BertConfig(attn_implementation="sdpa")
    ops = import_module("triptych_pt.ops")
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        attention.attend(ops, query, key, value, None, 0.5, Still(), config=config, causal=True)
    assert 0 < max(kept) < 512**2


def test_pytorch_is_told_that_a_text_is_causal_and_needs_no_bias(tmp_path: Path) -> None:
    import torch

    backend, told = Backend("pt"), []
    original = torch.nn.functional.scaled_dot_product_attention

    def noted(*args: Any, **kwargs: Any) -> Any:
        told.append((args[3] is None, args[5]))
        return original(*args, **kwargs)

    for stem, kind in (("GPT2LMHeadModel", "gpt2"), ("LlamaForCausalLM", "llama"), ("OPTForCausalLM", "opt")):
        model = backend.load(stem, random_folder(tmp_path / kind, config_of(kind, stem), stem))
        ids = torch.tensor([[4, 5, 6, 7]])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
            told.clear()
            past = model(ids[:, :2], use_cache=True).past_key_values
            assert set(told) == {(True, True)}
            parts = model(ids[:, 2:], past_key_values=past).logits
            assert set(told) == {(True, True), (False, False)}
        assert_close(parts.detach().numpy(), model(ids).logits[:, 2:].detach().numpy())


def test_dropout_of_attention_is_not_lost(backend: Backend) -> None:
    config = config_of("gpt2", **LONG, attn_pdrop=0.5, resid_pdrop=0.0, embd_pdrop=0.0)
    model, ids = backend.cls("GPT2Model")(config), _inputs()["input_ids"]
    assert model.config._attn_implementation == "sdpa"
    if backend.name == "pt":
        import torch

        first, second = (model.train()(torch.tensor(ids)).last_hidden_state.detach().numpy() for _ in range(2))
    elif backend.name == "tf":
        first, second = (model(ids, training=True).last_hidden_state.numpy() for _ in range(2))
    else:
        import jax

        keys = (jax.random.PRNGKey(n) for n in range(2))
        first, second = (np.asarray(model(ids, train=True, dropout_rng=k).last_hidden_state) for k in keys)
    assert not np.array_equal(first, second)


def test_dropout_over_a_mask_drops_the_same_in_both(backend: Backend, tmp_path: Path) -> None:
    rates = {"attention_probs_dropout_prob": 0.3, "hidden_dropout_prob": 0.0}
    folder = random_folder(tmp_path, config_of("bert", "BertModel", **rates), "BertModel")
    inputs = {name: array[:, :9] for name, array in _inputs().items()}
    found = []
    for implementation in ("sdpa", "eager"):
        model = backend.load("BertModel", folder, attn_implementation=implementation)
        with model.seeded_dropout(3, 0):
            if backend.name == "pt":
                found.append(backend.run(model.train(), inputs)["last_hidden_state"])
            else:
                trained = {"training": True} if backend.name == "tf" else {"train": True}
                found.append(np.asarray(model(**inputs, **trained).last_hidden_state))
    assert_close(found[0], found[1], inputs["attention_mask"])
    plain = backend.run(model.eval() if backend.name == "pt" else model, inputs)["last_hidden_state"]
    assert compare(found[0], plain, inputs["attention_mask"]).fraction > 100


def test_an_implementation_of_a_config_that_is_not_there_is_refused(backend: Backend, tmp_path: Path) -> None:
    folder = random_folder(tmp_path, config_of("bert"), "BertModel")
    with pytest.raises(ArgumentError, match="typo"):
        backend.load("BertModel", folder, attn_implementation={"typo": "eager"})
    with pytest.raises(ArgumentError, match="flash_attention_2"):
        backend.load("BertModel", folder, attn_implementation="flash_attention_2")
    model = backend.load("BertModel", folder, attn_implementation={"": "eager"})
    assert model.config._attn_implementation == "eager"
    model.set_attn_implementation("sdpa")
    assert model.config._attn_implementation == "sdpa"


def test_both_sides_of_an_encoder_and_a_decoder_compute_as_they_are_told(backend: Backend) -> None:
    sides = [config_of("bert"), config_of("bert")]
    config = backend.cls("EncoderDecoderModel").config_class.from_encoder_decoder_configs(*sides)
    model = backend.cls("EncoderDecoderModel")(config)

    def found() -> list[str]:
        return [one._attn_implementation for one in (model.config, model.config.encoder, model.config.decoder)]

    assert found() == ["sdpa"] * 3
    model.set_attn_implementation({"decoder": "eager"})
    assert found() == ["sdpa", "sdpa", "eager"]
    with pytest.raises(ArgumentError, match="nonsense"):
        model.set_attn_implementation({"encoder": "nonsense"})
    model.set_attn_implementation("eager")
    assert found() == ["eager"] * 3
