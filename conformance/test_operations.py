"""Single operations and layers of the backends, where no built-in model shows what they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

from small_models import config_of
from triptych.nn.seeding import _key as key_of_step
from triptych_conformance import Backend, assert_close

AS = {"pt": torch.tensor, "tf": tf.constant, "flax": jnp.asarray}


def ops_of(backend: Backend) -> Any:
    return importlib.import_module(f"triptych_{backend.name}.ops")


def test_write_puts_a_part_into_a_buffer(backend: Backend) -> None:
    ops = ops_of(backend)
    buffer, part = np.zeros((1, 2, 6, 4), np.float32), np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    found = np.asarray(ops.write(*(AS[backend.name](array) for array in (buffer.copy(), part)), 2))
    buffer[:, :, 2:5] = part
    assert np.array_equal(found, buffer)


@pytest.mark.parametrize("queries", [1, 3])
def test_groups_of_heads_of_a_single_number(queries: int) -> None:
    """As many queries as one are more heads of the same key; more of them are not, however small a head is."""
    from triptych_pt import ops

    rng = np.random.default_rng(0)
    query, key, value = (
        torch.tensor(rng.standard_normal((1, heads, length, 1)).astype(np.float32))
        for heads, length in ((4, queries), (2, 5), (2, 5))
    )
    found = ops.fused_attention(query, key, value, None, 1.0, torch.nn.Dropout(0.0).eval())
    wide_key, wide_value = (np.repeat(x.numpy(), 2, axis=1) for x in (key, value))
    scores = np.exp(query.numpy() @ wide_key.transpose(0, 1, 3, 2))
    assert_close(found.numpy(), (scores / scores.sum(-1, keepdims=True)) @ wide_value)


def test_parts_of_flax_compute_in_float32_unless_told() -> None:
    from triptych_flax.bert import FlaxBertLayer

    config = config_of("bert")
    hidden = np.random.default_rng(0).standard_normal((2, 5, config.hidden_size)).astype(np.float32)
    layer = FlaxBertLayer(config)
    output = layer.init_with_output(jax.random.PRNGKey(0), hidden)[0]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(output)} == {"float32"}


def test_arguments_by_position_are_those_of_the_function_where_no_order_is_declared() -> None:
    from triptych_flax.make import declared_call

    def function(self: Any, input_ids: Any, attention_mask: Any = None) -> None: ...

    class Model:
        def run_module(self, **given: Any) -> dict[str, Any]:
            return given

    assert declared_call(function)(Model(), "ids", "mask") == {"input_ids": "ids", "attention_mask": "mask"}


@pytest.mark.parametrize("step", [0, 7, 2**31 - 1])
def test_the_key_of_a_step_in_an_array_is_that_of_the_number(backend: Backend, step: int) -> None:
    ops, seed = ops_of(backend), (0xFEDCBA98, 0x76543210)
    array = AS[backend.name](step)
    numbers, arrays = key_of_step(ops, seed, step), key_of_step(ops, seed, array)
    for one, other in zip(numbers, arrays, strict=True):
        assert one.dtype == other.dtype and int(one) == int(other)
