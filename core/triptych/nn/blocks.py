"""Attention computed for one block of queries after another, for frameworks whose own function keeps all scores.

Each block's scores [B, N, q, K] are gone before the next one's are there, in the gradient too, which computes them anew
(Rabe and Staats, 2021). A query's softmax is over all its keys at once, so the numbers are those of plain attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from triptych.nn import functional as fn

SIZE = 128
"""How many queries a block has: with fewer TensorFlow is slower outside graphs, with more little is gained."""
Loop = Callable[[Callable[..., Any], Sequence[Any], Sequence[Any]], Any]


def weighted(
    ops: Any, query: Any, key: Any, value: Any, bias: Any, scale: float, change: Callable[[Any], Any] = lambda x: x
) -> tuple[Any, Any]:
    """Return context [B, N, Q, D] and probabilities [B, N, Q, K], after `change`; see `triptych.nn.attention.attend`.

    Keys and values of fewer heads are not repeated.
    """
    batch, heads, length, head_dim = ops.shape(query)
    groups, keys = ops.shape(key)[1:3]
    folded = (batch, groups, heads // groups * length)
    scores = ops.matmul(ops.reshape(query, (*folded, head_dim)), ops.transpose(key, (0, 1, 3, 2))) * scale
    scores = ops.reshape(scores, (batch, heads, length, keys))
    if bias is not None:
        scores = scores + bias
    probabilities = change(fn.softmax(ops, scores))
    context = ops.matmul(ops.reshape(probabilities, (*folded, keys)), value)
    return ops.reshape(context, (batch, heads, length, head_dim)), probabilities


def in_blocks(ops: Any, loop: Loop, query: Any, key: Any, value: Any, bias: Any, scale: float) -> Any:
    """Return context [B, N, Q, D]. `loop(function, blocks, whole)` calls `function(*block, *whole)` for each place of
    the first axis of `blocks`, one after another, and returns the results along such an axis."""

    def context(query: Any, *others: Any) -> Any:
        *own, key, value = others
        return weighted(ops, query, key, value, own[0] if own else None, scale)[0]

    length = ops.shape(query)[2]
    is_symbol = not isinstance(length, int) and not hasattr(length, "dtype")  # of JAX, which cannot loop over no block
    if is_symbol or (isinstance(length, int) and length < 2 * SIZE):
        return weighted(ops, query, key, value, bias, scale)[0]
    # Of a length that is known only at run time there is at least one block: TensorFlow cannot stack none.
    size = SIZE if isinstance(length, int) else ops.minimum(length, SIZE)
    count, end = length // size, length // size * size
    for_all = bias is not None and bias.shape[2] == 1
    rows = [query] if bias is None or for_all else [query, bias]
    whole = [bias, key, value] if for_all else [key, value]
    found = loop(context, [_blocks(ops, x, count, size) for x in rows], whole)
    batch, heads, _, head_dim = ops.shape(query)
    found = ops.reshape(ops.transpose(found, (1, 2, 0, 3, 4)), (batch, heads, end, head_dim))
    if isinstance(length, int) and length == end:
        return found
    return ops.concat([found, context(*(x[:, :, end:] for x in rows), *whole)], 2)


def _blocks(ops: Any, x: Any, count: Any, size: Any) -> Any:
    """[B, N, Q, D] -> [count, B, N, size, D], of the first queries."""
    batch, heads, _, width = ops.shape(x)
    rows = ops.reshape(x[:, :, : count * size], (batch, heads, count, size, width))
    return ops.transpose(rows, (2, 0, 1, 3, 4))
