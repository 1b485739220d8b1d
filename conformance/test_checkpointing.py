"""Layers that are computed anew for the gradient: they are, and every gradient is what it was, dropout included.

That the gradients of every class are the same without dropout, `test_family_classes.py` tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from small_models import config_of
from triptych_conformance import Backend, assert_close

FAMILIES = {"bert": "BertForMaskedLM", "gpt2": "GPT2LMHeadModel", "t5": "T5ForConditionalGeneration"}
LAYERS = {"bert": "BertLayer", "gpt2": "GPT2Block", "t5": "T5Block"}
RATES = {"attention_dropout": 0.3, "attn_pdrop": 0.3}
SCALE = 1e-6


def _config(kind: str) -> Any:
    config = config_of(kind)
    for name, rate in RATES.items():
        if hasattr(config, name):
            setattr(config, name, rate)
    return config


def _ids() -> np.ndarray:
    return np.random.default_rng(0).integers(3, 31, (2, 7))


def _assert_equal(before: dict[Any, np.ndarray], after: dict[Any, np.ndarray]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert_close(after[name], value, what=str(name))


@pytest.mark.parametrize("options", [None, {"use_reentrant": False}], ids=["reentrant", "not reentrant"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_pytorch_keeps_less_and_has_the_same_gradients(kind: str, options: Any) -> None:
    import torch

    model, ids = Backend("pt").cls(FAMILIES[kind])(_config(kind)).train(), torch.tensor(_ids())

    def gradients() -> tuple[dict[Any, np.ndarray], int]:
        kept: list[int] = []
        model.zero_grad()
        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.grad is not None}, sum(kept)

    before, much = gradients()
    model.gradient_checkpointing_enable(options)
    after, little = gradients()
    _assert_equal(before, after)
    assert little < 0.6 * much
    for parameter in model.get_input_embeddings().parameters():
        parameter.requires_grad_(False)
    frozen, _ = gradients()
    _assert_equal({name: value for name, value in before.items() if name in frozen}, frozen)
    assert len(before) - len(frozen) <= 1  # what stays trained has a gradient, though no input of the layers has one
    model.gradient_checkpointing_disable()
    assert gradients()[1] > little


def test_pytorch_over_a_cache() -> None:
    import torch

    model, ids = Backend("pt").cls("GPT2LMHeadModel")(_config("gpt2")).train(), torch.tensor(_ids())
    past = model(input_ids=ids, use_cache=True).past_key_values
    model.gradient_checkpointing_enable()
    assert "past_key_values" not in model(input_ids=ids, use_cache=True)
    assert model(input_ids=ids, past_key_values=past).past_key_values.get_seq_length() == 14
    assert model.eval()(input_ids=ids, use_cache=True).past_key_values.get_seq_length() == 7


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
@pytest.mark.parametrize("kind", LAYERS)
def test_tensorflow_computes_layers_anew_and_has_the_same_gradients(kind: str, compiled: bool) -> None:
    import tensorflow as tf

    model, ids = Backend("tf").cls(FAMILIES[kind])(_config(kind)), _ids()
    layers = [one for one in model._flatten_layers() if type(one).__name__ == f"TF{LAYERS[kind]}"]
    states = [one.state for part in model._flatten_layers() for one in getattr(part, "_seed_generators", ())]
    start, calls = [state.numpy() for state in states], []

    def gradients() -> dict[Any, np.ndarray]:
        for state, value in zip(states, start, strict=True):
            state.assign(value)

        def run() -> Any:
            with tf.GradientTape() as tape:
                loss = model(input_ids=ids, labels=ids, training=True).loss
            return tape.gradient(loss, [v.value for v in model.trainable_variables])

        found = (tf.function(run) if compiled else run)()
        values = {
            v.path: tf.convert_to_tensor(g).numpy() for v, g in zip(model.trainable_variables, found, strict=True)
        }
        return values | {f"state {number}": state.numpy() for number, state in enumerate(states)}

    before = gradients()
    call = layers[0].call
    layers[0].call = lambda *args, **kwargs: calls.append(1) or call(*args, **kwargs)
    model.gradient_checkpointing_enable()
    _assert_equal(before, gradients())
    assert len(calls) == 2  # once for the result, once for the gradient
    model.gradient_checkpointing_disable()
    _assert_equal(before, gradients())
    assert len(calls) == 3


def test_keras_trains_so_with_fit() -> None:
    import keras

    model, ids = Backend("tf").cls("BertForMaskedLM")(_config("bert")), _ids()
    model.compile("sgd")
    inputs = {"input_ids": ids, "labels": ids}
    keras.utils.set_random_seed(1)
    model.fit(inputs, verbose=0)
    model.gradient_checkpointing_enable()
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(inputs, verbose=0)
    after = [v.numpy() for v in model.trainable_variables]
    assert all(np.isfinite(value).all() for value in after)
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_flax_keeps_less_and_has_the_same_gradients(kind: str) -> None:
    import jax

    cls, ids = Backend("flax").cls(FAMILIES[kind]), _ids()
    model = cls(_config(kind))

    def loss(params: Any) -> Any:
        return model(input_ids=ids, labels=ids, params=params, train=True, dropout_rng=jax.random.PRNGKey(3)).loss

    def gradients() -> tuple[dict[Any, np.ndarray], int]:
        _, back = jax.jit(lambda p: jax.vjp(lambda q: loss(q), p))(model.params)
        kept = sum(leaf.size for leaf in jax.tree.leaves(back))
        found = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(lambda p: loss(p)))(model.params))
        return {jax.tree_util.keystr(path): np.asarray(value) for path, value in found}, kept

    before, much = gradients()
    model.enable_gradient_checkpointing()
    after, little = gradients()
    _assert_equal(before, after)
    assert little < 0.6 * much
