"""Keys and values of the tokens already seen, so that decoding computes each token once.

Each framework has its own way. PyTorch: an object that grows. TensorFlow and JAX: a dict of arrays of a fixed size, so
that a call is compiled once for all steps. A call never changes the cache that it is given, it returns another: so one
text can be continued in several ways. The caches of transformers (`DynamicCache`, `StaticCache`, ...) are changed, as
there; so are they by `reordered`, `repeated` and `cropped`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.errors import ArgumentError
from triptych.nn import functional as fn
from triptych.nn.fixed_cache import FixedCache, is_state, rows_of_state
from triptych.nn.growing_cache import GrowingCache, HeldCache, rows_of_memory


def extended(cache: Any, layer: int, key: Any, value: Any, cache_position: Any = None) -> tuple[Any, Any]:
    """Append to a cache of this room, or to one with the method `update` of transformers' caches, at `cache_position`
    [Q] if that is given."""
    if hasattr(cache, "extend"):
        return cache.extend(layer, key, value)  # type: ignore[no-any-return]
    where = {} if cache_position is None else {"cache_position": cache_position}
    return cache.update(key, value, layer, where)  # type: ignore[no-any-return]


def new_cache(ops: Any, heads: Sequence[int], head_dim: int, batch_size: int, max_length: int, dtype: Any) -> Any:
    """Return an empty cache of the framework's kind.

    Args:
        heads: number of key and value heads of each decoder layer.
        max_length: tokens for which there is room; a growing cache grows beyond them too.

    Raises:
        ArgumentError: a size is impossible.
    """
    _require_sizes(batch_size, max_length)
    if ops.GROWING_CACHE:
        return GrowingCache(ops, room=max_length)

    def empty() -> tuple[Any, ...]:
        return tuple(ops.zeros((batch_size, count, max_length, head_dim), dtype) for count in heads)

    return {"keys": empty(), "values": empty(), "memory": {}, "position": ops.zeros((), "int32")}


def new_named_cache(
    ops: Any, implementation: str | None, config: Any, batch_size: int, max_length: int, dtype: Any, device: Any = None
) -> Any:
    """Return an empty cache of the kind that `GenerationConfig.cache_implementation` names; None: the framework's own.

    Args:
        config: of a model with a decoder: it has `cached_heads` and `head_dim`.
        batch_size: rows, those of beams included.
        max_length: tokens for which there is room.
        device: where to keep it, in PyTorch.

    Raises:
        ArgumentError: the framework has no such cache, the config none of that kind, or a size is impossible.
    """
    if implementation is None or (implementation == "static" and not ops.GROWING_CACHE):
        return new_cache(ops, config.cached_heads, config.head_dim, batch_size, max_length, dtype)
    _require_sizes(batch_size, max_length)
    if not ops.GROWING_CACHE:
        raise ArgumentError(
            "The caches of this framework are of a fixed size.", expected="cache_implementation='static', or None",
            received=repr(implementation), remedy="leave it out, or generate in PyTorch",
        )  # fmt: skip
    return ops.named_cache(implementation, config, batch_size, max_length, dtype, device)


def _require_sizes(batch_size: Any, max_length: Any) -> None:
    for name, value in (("batch_size", batch_size), ("max_length", max_length)):
        if type(value) is not int or value < 1:
            raise ArgumentError(f"{name} is impossible.", expected="a positive integer", received=repr(value))


def opened(ops: Any, past_key_values: Any, use_cache: bool | None, config: Any = None) -> Any:
    """Return the cache of a call, or None: there is one if it was given, or asked for where caches grow. There it may
    be one of transformers 4: a tuple of keys and values for each layer, or a `DynamicCache` or another class of
    `triptych.cache_utils`, which the call changes; and there `use_cache=None` is what the `config` of a decoder says.

    Raises:
        ArgumentError: another kind of cache; `use_cache=True` without one where its size must be known first.
    """
    if isinstance(past_key_values, GrowingCache):
        return past_key_values.branch()
    if isinstance(past_key_values, FixedCache):  # of this very call: a model hands it to its decoder
        return past_key_values
    if is_state(past_key_values):
        return FixedCache(ops, past_key_values)
    as_tuples = bool(getattr(config, "torchscript", False))
    if ops.GROWING_CACHE and _is_tuples(past_key_values):
        return GrowingCache.of(ops, past_key_values, as_tuples)
    if ops.GROWING_CACHE and HeldCache.takes(past_key_values):
        return HeldCache(ops, past_key_values)
    if past_key_values is not None:
        raise _no_cache(past_key_values)
    if use_cache and not ops.GROWING_CACHE:
        raise ArgumentError(
            "A cache of fixed size must be made first.",
            expected="past_key_values with use_cache=True",
            remedy="pass past_key_values=model.init_cache(batch_size, max_length)",
        )
    usual = ops.GROWING_CACHE and bool(getattr(config, "use_cache", False))
    wanted = usual if use_cache is None else use_cache
    return GrowingCache(ops, asked=use_cache is not None, as_tuples=as_tuples) if wanted else None


def _no_cache(given: Any) -> ArgumentError:
    return ArgumentError(
        "past_key_values is no cache of triptych.",
        expected="what init_cache or an earlier call returned; where caches grow, also tuples or a DynamicCache",
        received=type(given).__name__,
    )


def _is_tuples(past_key_values: Any) -> bool:
    """Return whether this is a sequence of a tuple for each layer, of two or four arrays of four axes."""
    rows = past_key_values if isinstance(past_key_values, (tuple, list)) else ()
    kinds = [isinstance(row, (tuple, list)) and len(row) in (2, 4) for row in rows]
    if not kinds or not all(kinds):
        return False
    return all(len(fn.shape_of(array) or ()) == 4 for row in rows for array in row)


def reordered(ops: Any, cache: Any, rows: Any) -> Any:
    """Return a cache, of any kind that a model takes or returns, of the `rows` [R] of the batch, integers, in this
    order, as beams ask for; an object of transformers' kind is changed and returned. What is held of an encoder's
    output goes along.

    Raises:
        ArgumentError: it is no cache.
    """
    if cache is None:
        return None
    if isinstance(cache, GrowingCache):
        return cache.of_rows(rows)
    if is_state(cache):
        return rows_of_state(ops, cache, rows)
    if _is_tuples(cache):
        return tuple(_rows_of_layer(ops, layer, rows) for layer in cache)
    if not hasattr(cache, "reorder_cache"):
        raise _no_cache(cache)
    cache.reorder_cache(rows)
    return cache


def _rows_of_layer(ops: Any, layer: Sequence[Any], rows: Any) -> tuple[Any, ...]:
    own = ops.rows_of(layer[0], rows), ops.rows_of(layer[1], rows)
    return own if len(layer) == 2 else (*own, *rows_of_memory(ops, (layer[2], layer[3]), rows, layer[0]))


def repeated(ops: Any, cache: Any, times: int) -> Any:
    """Return a cache in which each row of the batch stands `times` times, one after the other: see `reordered`."""
    array = _an_array_of(cache)
    if array is None or times == 1:
        return cache
    return reordered(ops, cache, ops.arange(ops.shape(array)[0] * times, array) // times)


def _an_array_of(cache: Any) -> Any:
    """Return keys of a cache, [B, N, K, D], or None if it has none yet.

    Raises:
        ArgumentError: it is no cache.
    """
    found: Any
    if isinstance(cache, GrowingCache):
        found = list(cache.keys.values())
    elif is_state(cache):
        found = list(cache["keys"])
    elif cache is None or _is_tuples(cache):
        found = [layer[0] for layer in cache or ()]
    else:
        found = getattr(getattr(cache, "self_attention_cache", cache), "key_cache", None)
        if found is None:
            raise _no_cache(cache)
    return next((keys for keys in found if len(fn.shape_of(keys) or ()) == 4), None)


def cropped(cache: Any, length: Any) -> Any:
    """Return a cache of the first `length` tokens of the text, at most those that it holds: see `reordered`.

    Raises:
        ArgumentError: it is no cache, or of a kind that cannot forget the last tokens.
    """
    if isinstance(cache, GrowingCache):
        return cache.first_tokens(length)
    if is_state(cache):  # what is behind the position is never seen
        return {**cache, "position": cache["position"] * 0 + length}
    if _is_tuples(cache):
        return tuple((layer[0][:, :, :length], layer[1][:, :, :length], *layer[2:]) for layer in cache)
    if cache is not None and not hasattr(cache, "crop"):
        raise ArgumentError(
            "This cache cannot be cropped.", expected="one that grows: a DynamicCache", received=type(cache).__name__
        )
    if cache is not None:
        cache.crop(length)
    return cache


def length_of(ops: Any, cache: Any) -> Any:
    """Return the number of tokens that a cache holds, 0 for None: an int, or in a compiled call perhaps a scalar.

    Raises:
        ArgumentError: it is no cache.
    """
    if cache is None:
        return 0
    if isinstance(cache, Mapping) and is_state(cache):
        known = ops.known(cache["position"])
        return cache["position"] if known is None else known
    if _is_tuples(cache):
        return ops.shape(cache[0][0])[2]
    if not hasattr(cache, "get_seq_length"):
        raise _no_cache(cache)
    return int(cache.get_seq_length())
