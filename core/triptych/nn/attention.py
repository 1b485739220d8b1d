"""Attention: heads, scores, masks and positions, once for all frameworks; see `triptych.nn.functional` for `ops`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triptych.errors import ArgumentError
from triptych.nn import functional as fn
from triptych.nn.blocks import weighted

if TYPE_CHECKING:
    from triptych.config import PretrainedConfig


def split_heads(ops: Any, x: Any, heads: int) -> Any:
    """[B, Q, N * D] -> [B, N, Q, D], with N = `heads`."""
    batch, length, width = ops.shape(x)
    return ops.transpose(ops.reshape(x, (batch, length, heads, width // heads)), (0, 2, 1, 3))


def heads_of(ops: Any, x: Any, head_dim: int) -> Any:
    """[B, Q, N * D] -> [B, N, Q, D], with D = `head_dim`: as many heads as there are, be some of them pruned."""
    return split_heads(ops, x, ops.shape(x)[-1] // head_dim)


def merge_heads(ops: Any, x: Any) -> Any:
    """[B, N, Q, D] -> [B, Q, N * D]."""
    batch, heads, length, head_dim = ops.shape(x)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, length, heads * head_dim))


def is_fused(config: Any, output_attentions: bool = False, head_mask: Any = None) -> bool:
    """Return whether attention is computed without its probabilities: the config says "sdpa", and nobody needs them."""
    return getattr(config, "_attn_implementation", None) == "sdpa" and not output_attentions and head_mask is None


def attend(
    ops: Any, query: Any, key: Any, value: Any, bias: Any, scale: float, dropout: Any, head_mask: Any = None,
    config: PretrainedConfig | None = None, causal: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """Return context [B, Q, N * D] and probabilities [B, N, Q, K] of scaled dot-product attention.

    `config` is given where nobody asks for the probabilities. If it says "sdpa", and there is no `head_mask`, they are
    None: one function of the backend computes the context, and keeps none; unless it cannot drop what `dropout` does.

    `key` and `value` [B, M, K, D] may have fewer heads, each then used by N / M consecutive query heads (Ainslie et
    al., 2023). `bias` is added to the scores (0 where attended, the dtype's lowest value where not), or None; then
    `causal` says that a query sees the tokens up to its own, the last of the keys being the last query's. `dropout` is
    applied to the probabilities, which `head_mask` then multiplies (Vaswani et al., 2017; Michel et al., 2019).
    """
    fused = is_fused(config, head_mask=head_mask) and ops.fuses(dropout)
    causal = causal and bias is None and query.shape[2] != 1  # one query sees all keys
    if causal and not (fused and ops.CAUSAL_KERNEL and query.shape[2] == key.shape[2]):
        bias, causal = causal_over(ops, None, query, key), False
    if fused:
        context = ops.fused_attention(query, key, value, bias, scale, dropout, causal)
        return merge_heads(ops, context), None

    def change(probabilities: Any) -> Any:
        dropped = dropout(probabilities)
        return dropped if head_mask is None else dropped * head_mask

    context, probabilities = weighted(ops, query, key, value, bias, scale, change)
    return merge_heads(ops, context), probabilities


def padding_bias(ops: Any, attention_mask: Any, dtype: Any, keys: Any = None) -> Any:
    """Turn a mask of 1 and 0, [B, K] or [B, Q, K], into what is added to scores, broadcastable to [B, N, Q, K].

    Raises:
        ArgumentError: the mask has another rank, or another length than `keys` [B, K, H], if those are given.
    """
    if attention_mask is None:
        return None
    if keys is not None and fn.differ(attention_mask.shape[-1:], keys.shape[1:2]):
        raise ArgumentError(
            "A mask does not fit what it is for.", expected=f"a mask of {keys.shape[1]}, the number of tokens",
            received=f"one of shape {fn.described(attention_mask)}",
        )  # fmt: skip
    return (1 - ops.cast(_spread(attention_mask), dtype)) * ops.lowest(dtype)


def memory_bias(ops: Any, memory: Any, attention_mask: Any, hidden: Any) -> Any:
    """Return what the mask of an encoder's states `memory` [B, S, H], if there are any, adds to scores of `hidden`
    [B, Q, H]: see `padding_bias`.

    Raises:
        ArgumentError: the states fit neither `hidden` nor the mask.
    """
    if memory is not None:
        given, (batch, _, width) = fn.shape_of(memory), hidden.shape
        one_for_all = given is not None and given[:1] == (1,)
        if fn.differ(given, (None if one_for_all else batch, None, width)):
            raise ArgumentError(
                "encoder_hidden_states do not fit.", expected=f"the states of an encoder, [{batch}, S, {width}]",
                received=fn.described(memory),
            )  # fmt: skip
    return padding_bias(ops, attention_mask, hidden.dtype, memory)


def _spread(attention_mask: Any) -> Any:
    rank = len(attention_mask.shape)
    if rank not in (2, 3):
        raise ArgumentError("attention_mask has a wrong rank.", expected="2 or 3", received=str(rank))
    return attention_mask[:, None, None, :] if rank == 2 else attention_mask[:, None, :, :]


def causal_bias(
    ops: Any, attention_mask: Any, hidden: Any, cache: Any = None, window: int | None = None, fused: bool = False
) -> Any:
    """Return what lets each of the queries `hidden` [B, Q, H] see the tokens up to its own, [B or 1, 1, Q, K]; None if
    there is one query, which sees all of a cache that grows.

    Args:
        attention_mask: 1 and 0 for the tokens so far, [B, past + Q], or None. Over a cache of fixed size it may be of
            any length from that to the cache's; what it does not reach lies ahead.
        window: how many tokens back a query sees, itself included.
        fused: return None where a kernel needs no more than to be told that it is `causal`: see `attend`.

    Raises:
        ArgumentError: the mask has another length, or the cache has no room.
    """
    length = ops.shape(hidden)[1]
    if attention_mask is None and ops.GROWING_CACHE and hidden.shape[1] == 1 and (cache is None or not cache.fixed):
        if window is None or key_span(1, cache, window)[1] <= window:
            return None
    # A cache of fixed size has keys ahead of the queries, and its position may not be known yet.
    empty = cache is None or (not cache.fixed and cache.position == 0)
    if fused and ops.CAUSAL_KERNEL and attention_mask is None and empty:
        if window is None or (isinstance(length, int) and window >= length):
            return None
    queries = query_positions(ops, hidden, cache)[:, None]
    first, count = key_span(length, cache, window)
    keys = ops.arange(count, hidden)[None, :]
    keys = keys + first if first else keys  # a sliding cache has let go of those before
    allowed = keys <= queries
    if window is not None:
        allowed = allowed & (keys > queries - window)
    seen = ops.cast(allowed, hidden.dtype)[None, None, :, :]
    if attention_mask is not None:
        seen = seen * ops.cast(_spread(_reaching(ops, attention_mask, length, cache, window)), hidden.dtype)
    return (1 - seen) * ops.lowest(hidden.dtype)


def over_keys(bias: Any, key: Any) -> Any:
    """Return `bias` [B, N, Q, K] for the keys that there are, where it is for more of them."""
    if bias is None or not isinstance(key.shape[2], int) or bias.shape[-1] in (None, key.shape[2]):
        return bias
    return bias[..., : key.shape[2]]


def causal_over(ops: Any, bias: Any, query: Any, key: Any) -> Any:
    """Return `bias` if it says for each query [B, N, Q, D] what it sees of `key` [B, N, K, D]; else one, with what it
    says of the keys, by which queries see the tokens up to their own, the last of the keys being the last query's."""
    length, keys = ops.shape(query)[2], ops.shape(key)[2]
    if query.shape[2] == 1 or (bias is not None and bias.shape[-2] != 1):
        return bias
    places = ops.arange(keys, query)
    seen = ops.cast(places[None, :] <= places[keys - length :, None], query.dtype)[None, None, :, :]
    causal = (1 - seen) * ops.lowest(query.dtype)
    # A sum of two lowest values would be infinite, and a row of them no number.
    return causal if bias is None else ops.where(seen > 0, bias, causal)


def query_positions(ops: Any, hidden: Any, cache: Any) -> Any:
    """Return the places [Q] of the queries in the text."""
    places = ops.arange(ops.shape(hidden)[1], hidden)
    return places if cache is None else places + cache.position


def key_span(length: Any, cache: Any, window: int | None = None) -> tuple[int, Any]:
    """Return the place of the first key that `length` queries see, and how many keys they see."""
    return (0, length) if cache is None else cache.span(length, window)


def _reaching(ops: Any, attention_mask: Any, length: Any, cache: Any, window: int | None = None) -> Any:
    """Return the mask for the keys of the cache: lengthened, if that is of a fixed size; without what it let go of."""
    first, count = key_span(length, cache, window)
    given, wanted = ops.shape(attention_mask)[-1], first + count
    if not isinstance(given, int) or not isinstance(wanted, int) or given == wanted:
        return attention_mask[..., first:] if first else attention_mask
    if given > wanted or cache is None or not cache.fixed:
        raise ArgumentError(
            "attention_mask has a wrong length.", expected=f"{wanted}, the past included", received=str(given)
        )
    ahead = ops.zeros((*ops.shape(attention_mask)[:-1], wanted - given), attention_mask.dtype, attention_mask) + 1
    return ops.concat([attention_mask, ahead], -1)[..., first:]


def head_masks(
    ops: Any,
    head_mask: Any,
    config: PretrainedConfig,
    dtype: Any,
    numbers: Sequence[int] | None = None,
) -> list[Any]:
    """Return one mask per layer, broadcastable to [B, N, Q, K], from [N] or [layers, N]; None where all heads count.

    Heads are numbered as they were before pruning: a pruned layer takes those of its heads that it still has.
    `numbers` are the layers' numbers in `config.pruned_heads`; None for all layers of the config.
    """
    numbers = range(config.num_hidden_layers) if numbers is None else numbers
    masks = whole_head_masks(ops, head_mask, config, dtype, len(numbers))
    return [mask_of_kept(ops, mask, config, number) for mask, number in zip(masks, numbers, strict=True)]


def whole_head_masks(ops: Any, head_mask: Any, config: PretrainedConfig, dtype: Any, layers: int) -> list[Any]:
    """Return one mask per layer for all the heads that there were before pruning, as `head_masks` does."""
    heads = config.num_attention_heads
    if head_mask is None:
        return [None] * layers
    shape = tuple(head_mask.shape)
    if shape not in ((heads,), (layers, heads)):
        raise ArgumentError(
            "head_mask has a wrong shape.", expected=f"({heads},) or ({layers}, {heads})", received=str(shape)
        )
    rows = [head_mask] * layers if len(shape) == 1 else [head_mask[layer] for layer in range(layers)]
    return [ops.cast(row, dtype)[None, :, None, None] for row in rows]


def mask_of_kept(ops: Any, head_mask: Any, config: PretrainedConfig, number: int) -> Any:
    """Return of a mask of all heads, [..., N, 1, 1] or None, the part for those that a pruned layer still has."""
    kept = None if head_mask is None else kept_heads(config, number)
    return head_mask if kept is None else ops.take(head_mask, kept, len(head_mask.shape) - 3)


def kept_heads(config: PretrainedConfig, number: int) -> list[int] | None:
    """Return the original numbers of the heads that a pruned layer still has, or None if it was not pruned."""
    gone = config.pruned_heads.get(number, ())
    return [head for head in range(config.num_attention_heads) if head not in gone] if gone else None


def counted_positions(ops: Any, attention_mask: Any, reference: Any, cache: Any = None) -> Any:
    """Return position ids [B, Q] that number the ones of `attention_mask` [B, past + Q] from 0, and are -1 at its
    zeros; without a mask `positions`.

    Raises:
        ArgumentError: a mask [B, Q, K], which does not say where its texts begin.
    """
    if attention_mask is None:
        return positions(ops, reference, cache)
    if len(attention_mask.shape) != 2:
        raise ArgumentError(
            "Positions cannot be counted over this attention_mask.",
            expected="a mask [B, past + Q]",
            received=f"one of {len(attention_mask.shape)} axes",
            remedy="pass position_ids",
        )
    seen = ops.cast(_reaching(ops, attention_mask, ops.shape(reference)[1], cache), "int32")
    counted = ops.cumsum(seen) * seen - 1
    if cache is None:
        return counted
    return ops.transpose(ops.gather(ops.transpose(counted, (1, 0)), query_positions(ops, reference, cache)), (1, 0))


def positions(ops: Any, reference: Any, cache: Any = None) -> Any:
    """Return position ids [1, Q] for ids or embeddings `reference` of [B, Q, ...], after those of the cache."""
    return query_positions(ops, reference, cache)[None, :]
