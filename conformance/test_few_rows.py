"""What PyTorch computes in another way where rows are few, as in decoding, is the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triptych.nn import attention as at
from triptych.nn.cache import GrowingCache
from triptych_conformance import assert_close
from triptych_pt import make, ops


def random(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 16, 17, 32, 33])
@pytest.mark.parametrize("width", [24, 7])
def test_products_of_few_rows_are_those_of_many(rows: int, width: int) -> None:
    x, conv, head = random(rows, 1, 12), make.Conv1D(width, 12), make.VocabHead(12, width)
    with torch.no_grad():
        assert_close(conv(x), x.double() @ conv.weight.double() + conv.bias, what="Conv1D")
        assert_close(head(x), x.double() @ head.weight.double().T + head.bias, what="head")
    assert conv(x).shape == head(x).shape == (rows, 1, width)


@pytest.mark.parametrize("rows", [3, 8])
def test_products_of_few_rows_have_gradients(rows: int) -> None:
    x = random(rows, 12).requires_grad_()
    for layer, matrix in ((conv := make.Conv1D(8, 12), conv.weight), (head := make.VocabHead(12, 8), head.weight)):
        x.grad = matrix.grad = None
        layer(x).square().sum().backward()
        found = x.grad, matrix.grad
        x.grad = matrix.grad = None
        product = x @ (matrix if layer is conv else matrix.T) + layer.bias
        product.square().sum().backward()
        for name, ours, plain in zip(("x", "weight"), found, (x.grad, matrix.grad), strict=True):
            assert_close(ours, plain, what=name)


@pytest.mark.parametrize("bias", [None, (2, 1, 1, 5), (2, 6, 1, 5)])
def test_one_query_of_shared_heads_attends_as_with_heads_of_its_own(bias: tuple[int, ...] | None) -> None:
    query, key, value = random(2, 6, 1, 4), random(2, 3, 5, 4), random(2, 3, 5, 4) + 1
    added, dropout = None if bias is None else random(*bias), torch.nn.Dropout(0.0).eval()
    own = (x.repeat_interleave(2, 1) for x in (key, value))
    shared = ops.fused_attention(query, key, value, added, 0.5, dropout)
    assert shared.shape == query.shape
    assert_close(shared, ops.fused_attention(query, *own, added, 0.5, dropout))


def test_one_query_over_a_growing_cache_needs_a_mask_only_where_it_sees_less() -> None:
    cache, hidden = GrowingCache(ops), random(1, 1, 4)
    cache.position = 4
    assert at.causal_bias(ops, None, hidden, cache) is None
    assert at.causal_bias(ops, None, hidden, cache, window=5) is None
    narrow = at.causal_bias(ops, None, hidden, cache, window=4)
    assert (narrow[0, 0, 0] == 0).tolist() == [False, True, True, True, True]
    assert at.causal_bias(ops, torch.ones(1, 5), hidden, cache) is not None
    assert at.causal_over(ops, None, random(1, 2, 1, 4), random(1, 2, 5, 4)) is None
