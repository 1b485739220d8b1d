"""Caches of every kind give what none gives, and their rows and lengths are changed alike in the three frameworks."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from triptych.cache_utils import (
    DynamicCache,
    EncoderDecoderCache,
    HybridCache,
    OffloadedCache,
    OffloadedStaticCache,
    SlidingWindowCache,
    StaticCache,
)

from calls import run_raw
from small_models import config_of, random_inputs
from triptych import ArgumentError
from triptych.nn import cache as caches
from triptych.nn.growing_cache import GrowingCache
from triptych_conformance import BACKENDS, Backend, assert_close
from triptych_pt import ops

NAMED = ["dynamic", "offloaded", "static", "offloaded_static"]
SLIDING = {"sliding_window": 6, "max_window_layers": 1, "use_sliding_window": True}
PARTS = ((0, 4), (4, 5), (5, 6), (6, 9), (9, 10), (10, 11))
PT = next(backend for backend in BACKENDS if backend.name == "pt")


@functools.cache
def model_of(backend: Backend, variant: str, stem: str, **fields: Any) -> Any:
    torch.manual_seed(3)
    model = backend.cls(stem)(config_of(variant, **fields))
    return model.eval() if backend.name == "pt" else model


def texts(model: Any) -> tuple[str, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return the name of the ids that are decoded, other inputs, the ids [2, 11], and a mask padded at the left."""
    inputs = random_inputs(model.config)
    ids, mask = inputs["input_ids"], np.ones((2, 11), np.int64)
    if model.config.is_encoder_decoder:
        return "decoder_input_ids", inputs, ids, mask
    mask[1, :2] = 0
    return "input_ids", {}, ids, mask


def logits_by(backend: Backend, model: Any, cache: Any, between: Callable[[Any], Any] | None = None) -> np.ndarray:
    """Return the logits of a text that is read in parts."""
    name, more, ids, mask = texts(model)
    found = []
    for start, end in PARTS:
        masks = {} if more else {"attention_mask": mask[:, :end]}
        with torch.no_grad():
            output = run_raw(backend, model, {**more, name: ids[:, start:end], **masks}, cache)
        cache = output.past_key_values if between is None else between(output.past_key_values)
        found.append(np.asarray(output.logits))
    return np.concatenate(found, 1)


def whole(backend: Backend, model: Any) -> tuple[np.ndarray, np.ndarray]:
    name, more, ids, mask = texts(model)
    masks = {} if more else {"attention_mask": mask}
    with torch.no_grad():
        return np.asarray(run_raw(backend, model, {**more, name: ids, **masks}, None).logits), mask


DECODERS = [("gpt2", "GPT2LMHeadModel"), ("opt", "OPTForCausalLM"), ("bert, decoder", "BertLMHeadModel"),
            ("llama", "LlamaForCausalLM"), ("t5", "T5ForConditionalGeneration")]  # fmt: skip


@pytest.mark.parametrize(("variant", "stem"), DECODERS)
@pytest.mark.parametrize("name", NAMED)
def test_caches_of_transformers_change_nothing(name: str, variant: str, stem: str) -> None:
    model = model_of(PT, variant, stem)
    cache = caches.new_named_cache(ops, name, model.config, 2, 13, torch.float32)
    assert isinstance(cache, EncoderDecoderCache) == (variant in ("t5", "bert, decoder"))
    expected, mask = whole(PT, model)
    assert_close(logits_by(PT, model, cache), expected, mask)
    assert caches.length_of(ops, cache) == cache.get_seq_length() == 11
    own = getattr(cache, "self_attention_cache", cache)
    if hasattr(own, "reset"):
        own.reset()
        assert_close(logits_by(PT, model, cache), expected, mask)


@pytest.mark.parametrize("name", [*NAMED, "sliding_window", "hybrid"])
@pytest.mark.parametrize("width", [3, 4, 6, 30])
def test_windows(name: str, width: int) -> None:
    model = model_of(PT, "mistral", "MistralForCausalLM", sliding_window=width)
    cache = caches.new_named_cache(ops, name, model.config, 2, 13, torch.float32)
    expected, mask = whole(PT, model)
    assert_close(logits_by(PT, model, cache), expected, mask)
    assert cache.get_seq_length() == 11
    if name == "sliding_window":
        assert cache.key_cache[0].shape[2] == min(width, 13)


def test_a_hybrid_cache_follows_the_layers_of_the_model() -> None:
    model = model_of(PT, "qwen2", "Qwen2ForCausalLM", **SLIDING)
    expected, mask = whole(PT, model)
    cache = HybridCache(model.config, max_batch_size=2, max_cache_len=12)
    assert [keys.shape[2] for keys in cache.key_cache] == [12, 6, 6] and cache.is_sliding.tolist() == [
        False,
        True,
        True,
    ]
    assert_close(logits_by(PT, model, cache), expected, mask)
    with pytest.raises(ArgumentError, match="(?s)cache is full.*HybridCache"):
        logits_by(PT, model, SlidingWindowCache(model.config, max_batch_size=2, max_cache_len=12))


def test_fixed_caches_refuse_what_does_not_fit() -> None:
    model, ids = model_of(PT, "llama", "LlamaForCausalLM"), torch.ones(2, 3, dtype=torch.long)
    with pytest.raises(ArgumentError, match="(?s)cache is full.*at most 10"):
        logits_by(PT, model, StaticCache(model.config, 2, 10))
    for wrong in (StaticCache(model.config, 3, 10), StaticCache(config_of("llama", num_hidden_layers=1), 2, 10)):
        with pytest.raises(ArgumentError, match="another model or batch"):
            model(input_ids=ids, past_key_values=wrong)
    for kind in (SlidingWindowCache, HybridCache):
        with pytest.raises(ArgumentError, match="no sliding window"):
            kind(model.config, 2, 10)
    with pytest.raises(ArgumentError, match="How many rows"):
        StaticCache(model.config)
    with pytest.raises(ArgumentError, match="There is no such cache"):
        caches.new_named_cache(ops, "quantized", model.config, 2, 10, torch.float32)
    full = StaticCache(model.config, 1, 2)
    with pytest.raises(ArgumentError, match="cache is full"):
        full.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), 0)
    assert full.get_seq_length() == 0


@pytest.mark.parametrize("kind", [StaticCache, SlidingWindowCache, HybridCache, OffloadedStaticCache])
def test_authors_write_at_cache_position(kind: Any) -> None:
    config = config_of("mistral", sliding_window=5)
    device = ("cpu",) if kind is OffloadedStaticCache else ()
    cache, text = kind(config, 2, 12, *device), torch.randn(2, config.num_key_value_heads, 9, config.head_dim)
    for start, end in ((0, 3), (3, 4), (4, 8), (8, 9)):
        where = {"cache_position": torch.arange(start, end)}
        keys, values = cache.update(text[:, :, start:end], -text[:, :, start:end], 0, where)
    first, count = (0, 9) if kind in (StaticCache, OffloadedStaticCache) else (4, 5)
    assert torch.equal(keys[:, :, :count], text[:, :, first:]) and torch.equal(
        values[:, :, :count], -text[:, :, first:]
    )
    assert cache.get_seq_length() == 9 and cache.get_seq_length(1) == 0


def as_tuples(cache: Any) -> Any:
    return cache.to_legacy_cache()


KINDS: dict[str, Callable[[Any], Any]] = {
    "growing": lambda model: model.init_cache(2, 11),
    "tuples": lambda model: model.init_cache(2, 11),
    **{name: lambda model, name=name: caches.new_named_cache(ops, name, model.config, 2, 13, torch.float32)
       for name in NAMED},
}  # fmt: skip
TWO = [("gpt2", "GPT2LMHeadModel"), ("t5", "T5ForConditionalGeneration")]


@pytest.mark.parametrize(("variant", "stem"), TWO)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_growing_caches(kind: str, variant: str, stem: str) -> None:
    model = model_of(PT, variant, stem)
    exchange(model, KINDS[kind](model), as_tuples if kind == "tuples" else None)


def exchange(model: Any, cache: Any, change: Callable[[Any], Any] | None) -> None:
    """Read a text, exchange its rows, repeat them, and read on; then go back some tokens, if the cache can."""
    name, more, ids, _ = texts(model)

    def read(text: np.ndarray, rows: list[int], cache: Any) -> tuple[np.ndarray, Any]:
        with torch.no_grad():
            picked = {key: value[rows] for key, value in more.items()}
            output = run_raw(PT, model, {**picked, name: text}, cache)
        past = output.past_key_values
        return np.asarray(output.logits), past if change is None or past is None else change(past)

    _, cache = read(ids[:, :5], [0, 1], cache)
    order = [1, 0]
    cache = caches.reordered(ops, cache, torch.tensor(order))
    for _ in range(2):  # the second time in buffers with room, where there are some
        cache = caches.repeated(ops, cache, 2) if len(order) == 2 else cache
        order = [1, 1, 0, 0]
        text = ids[order]
        expected = read(text[:, :7], order, None)[0]
        assert caches.length_of(ops, cache) == 5
        found, longer = read(text[:, 5:7], order, cache)
        assert_close(found, expected[:, 5:])
        if type(longer) in (StaticCache, OffloadedStaticCache, EncoderDecoderCache) and longer is cache:
            break
        cache = caches.cropped(longer, 5)
    again = [0, 3, 3, 1]
    picked = caches.reordered(ops, longer, torch.tensor(again))
    held = caches.length_of(ops, picked)
    rows = [order[row] for row in again]
    expected = read(ids[rows][:, :8], rows, None)[0]
    assert_close(read(ids[rows][:, held:8], rows, picked)[0], expected[:, held:])


@pytest.mark.parametrize("framework", [b for b in BACKENDS if b.name != "pt"], ids=lambda b: b.name)
def test_rows_of_fixed_caches(framework: Backend) -> None:
    every = framework.cls("GPT2LMHeadModel")._ops
    state = caches.new_cache(every, (1,), 1, 2, 3, "float32")
    array = np.arange(2 * 3, dtype=np.float32).reshape(2, 1, 3, 1)
    keys, two = every.constant(array, state["position"]), every.constant(np.int32(2), state["position"])
    state = {
        "keys": (keys,),
        "values": (-keys,),
        "memory": {"0": (keys + 6,) * 2, "1": (keys[:1],) * 2},
        "position": two,
    }
    step = compiled(framework)(
        lambda cache, rows: caches.cropped(caches.repeated(every, caches.reordered(every, cache, rows), 2), 1)
    )
    made = step(state, every.constant(np.array([1, 0], np.int32), keys))
    expected = array[[1, 1, 0, 0]]
    assert np.array_equal(made["keys"][0], expected) and np.array_equal(made["values"][0], -expected)
    assert np.array_equal(made["memory"]["0"][0], expected + 6)
    assert np.array_equal(made["memory"]["1"][1], array[:1])  # of one text that stands for all
    assert caches.length_of(every, made) == 1 and caches.length_of(every, state) == 2


def compiled(framework: Backend) -> Any:
    if framework.name == "tf":
        import tensorflow as tf

        return tf.function
    import jax

    return jax.jit


@pytest.mark.parametrize("framework", [b for b in BACKENDS if b.name != "pt"], ids=lambda b: b.name)
def test_fixed_frameworks_have_static_caches_alone(framework: Backend) -> None:
    every, config = framework.cls("GPT2LMHeadModel")._ops, config_of("gpt2")
    made = [caches.new_named_cache(every, name, config, 2, 5, "float32") for name in (None, "static")]
    assert [keys.shape for keys in made[0]["keys"]] == [keys.shape for keys in made[1]["keys"]]
    for name in ("dynamic", "offloaded", "sliding_window", "quantized"):
        with pytest.raises(ArgumentError, match="(?s)fixed size.*static"):
            caches.new_named_cache(every, name, config, 2, 5, "float32")


def test_what_is_no_cache_is_refused() -> None:
    for call in (lambda: caches.reordered(ops, [1], torch.zeros(1)), lambda: caches.length_of(ops, object()),
                 lambda: caches.repeated(ops, object(), 2)):  # fmt: skip
        with pytest.raises(ArgumentError, match="no cache of triptych"):
            call()
    with pytest.raises(ArgumentError, match="cannot be cropped"):
        caches.cropped(StaticCache(config_of("gpt2"), 1, 4), 2)
    assert caches.length_of(ops, None) == 0 and caches.reordered(ops, None, None) is None
    assert caches.repeated(ops, None, 3) is None and caches.cropped(None, 3) is None


@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_a_buffer_with_room_gives_the_same_bits(variant: str) -> None:
    model = model_of(PT, variant, dict(DECODERS)[variant])
    ids = torch.tensor(random_inputs(model.config)["input_ids"])

    def logits(cache: Any) -> list[torch.Tensor]:
        found = []
        for start, end in PARTS:
            output = model(input_ids=ids[:, start:end], past_key_values=cache)
            cache = output.past_key_values
            found.append(output.logits.detach())
        return found

    concatenated = logits(model.init_cache(2, 11))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            of_buffer = logits(model.init_cache(2, 11))
            assert all(map(torch.equal, of_buffer, logits(DynamicCache())))
            for one, other in zip(of_buffer, concatenated, strict=True):  # which recorded gradients
                assert_close(one.numpy(), other.numpy())


def _tokens(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, count, 4), torch.randn(2, 3, count, 4)


def _read(cache: GrowingCache, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Append tokens to a cache of one layer, and return them."""
    new = _tokens(count)
    cache.extend(0, *new)
    cache.position += count
    return new


def test_a_buffer_has_room_for_long_parts() -> None:
    cache = GrowingCache(ops)
    with torch.no_grad():
        parts = [_read(cache, count) for count in (100, 90, 1, 300)]
    assert torch.equal(cache.keys[0], torch.cat([key for key, _ in parts], 2))
    assert torch.equal(cache.values[0], torch.cat([value for _, value in parts], 2))


def test_rows_of_a_text_that_has_outgrown_its_buffer() -> None:
    cache = GrowingCache(ops)
    with torch.no_grad():
        _read(cache, 2), _read(cache, 1)
    _read(cache, 100)  # what records gradients makes no buffer
    with torch.no_grad():
        rows = cache.of_rows(torch.tensor([1, 0]))
        assert torch.equal(rows.keys[0], cache.keys[0][[1, 0]]) and torch.equal(rows.values[0], cache.values[0][[1, 0]])


def test_a_fixed_cache_of_an_encoders_states_is_of_its_length() -> None:
    model = model_of(PT, "t5", "T5ForConditionalGeneration")
    expected, mask = whole(PT, model)
    fitting = EncoderDecoderCache(DynamicCache(), StaticCache(model.config, 2, 11))
    assert_close(logits_by(PT, model, fitting), expected, mask)
    with pytest.raises(ArgumentError, match="(?s)cross_attention_cache for 11 tokens.*for 12"):
        logits_by(PT, model, EncoderDecoderCache(DynamicCache(), StaticCache(model.config, 2, 12)))


def test_branches_share_a_buffer_until_they_part() -> None:
    model = model_of(PT, "gpt2", "GPT2LMHeadModel")
    ids = torch.tensor(random_inputs(model.config)["input_ids"])

    def read(start: int, end: int, cache: Any) -> Any:
        return model(input_ids=ids[:, start:end], past_key_values=cache).past_key_values

    with torch.no_grad():
        prefix = read(1, 2, read(0, 1, None))
        before = [x.clone() for pair in prefix.to_legacy_cache() for x in pair]
        first, second = read(2, 4, prefix), read(7, 9, prefix)
        third = read(4, 5, caches.cropped(first, 3))
    places = [cache.keys[0].data_ptr() for cache in (prefix, first, second, third)]
    assert places[0] == places[1] and len(set(places)) == 3  # the first goes on where it was, the others copy
    assert all(map(torch.equal, before, (x for pair in prefix.to_legacy_cache() for x in pair)))
    assert torch.equal(first.keys[0][:, :, :2], second.keys[0][:, :, :2])
    assert not torch.equal(first.keys[0][:, :, 2:], second.keys[0][:, :, 2:])
    with torch.inference_mode():
        inferred = read(2, 3, read(1, 2, read(0, 1, None)))
    with torch.no_grad():
        assert_close(read(3, 4, inferred).keys[1].numpy(), first.keys[1].numpy())  # read one by one, and two at once
    copied = copy.deepcopy(prefix)
    assert copied.get_seq_length() == 2 and read(2, 4, copied).keys[0].requires_grad


def test_a_static_cache_is_compiled_once_for_all_steps() -> None:
    model = model_of(PT, "llama", "LlamaForCausalLM")
    ids, graphs = torch.tensor(random_inputs(model.config)["input_ids"]), []

    def noted(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    step = torch.compile(lambda ids, cache: model(input_ids=ids, past_key_values=cache).logits, backend=noted)
    cache = StaticCache(model.config, 2, 16)
    with torch.no_grad():
        found = [step(ids[:, start:end], cache) for start, end in ((0, 5), (5, 6), (6, 7), (7, 8), (8, 9))]
        assert_close(torch.cat(found, 1), model(input_ids=ids[:, :9]).logits)
    assert len(graphs) == 2


def test_an_offloaded_cache_reorders_what_is_away() -> None:
    config = config_of("gpt2")
    cache, plain = OffloadedCache(), DynamicCache()
    for layer in range(config.num_hidden_layers):
        for one in (cache, plain):
            one.update(torch.arange(6.0).reshape(3, 1, 2, 1), torch.ones(3, 1, 2, 1), layer)
    cache.original_device[1] = torch.device("meta")  # as if the second layer were not where it is computed with
    for rows in ([2, 0, 1], [1, 1, 0]):
        for one in (cache, plain):
            one.reorder_cache(torch.tensor(rows))
    cache.original_device[1] = torch.device("cpu")
    assert all(torch.equal(cache[layer][0], plain[layer][0]) for layer in range(len(plain)))
    with pytest.raises(ArgumentError, match="takes every layer"):
        cache.update(torch.ones(3, 1, 2, 1), torch.ones(3, 1, 2, 1), 9)
    parts = plain.batch_split(3, 2)
    assert [part.key_cache[0].shape[0] for part in parts] == [2, 1]
    assert torch.equal(DynamicCache.from_batch_splits(parts)[1][0], plain[1][0])
