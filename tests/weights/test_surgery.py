"""New rows of a table: the same numbers however many are drawn at a time, in a small multiple of the table's memory."""

from __future__ import annotations

import tracemalloc
import zlib

import ml_dtypes
import numpy as np
import pytest

from triptych import ArgumentError, LlamaConfig
from triptych.families import declared_schema
from triptych.weights import surgery

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]


def table(*shape: int, dtype: object = np.float32) -> np.ndarray:
    return (np.random.default_rng(7).standard_normal(shape) * 0.02).astype(dtype)


def at_once(old: np.ndarray, grow: surgery.Grow) -> np.ndarray:
    """Return what `grow` appends, all of it drawn at once."""
    rng = np.random.default_rng([grow.seed, zlib.crc32(grow.weight.encode())])
    shape = (grow.count, *old.shape[1:])
    if grow.fill == "normal":
        return (rng.standard_normal(shape) * grow.std).astype(np.float32)
    if grow.fill == "zeros":
        return np.zeros(shape, np.float32)
    rows = old.astype(np.float32).reshape(len(old), -1)
    mean = rows.mean(axis=0, dtype=np.float64)
    z = rng.standard_normal((grow.count, len(rows)))
    noise = (z @ rows - z.sum(axis=1, keepdims=True) * mean) / np.sqrt(len(rows))
    return (mean + np.sqrt(1e-9) * noise).astype(np.float32).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", ["mean", "normal", "zeros"])
@pytest.mark.parametrize(
    ("shape", "axis", "count"),
    [((40, 8), 0, 1), ((40, 8), 0, 17), ((8, 40), 1, 17), ((40,), 0, 17), ((1, 3), 0, 5), ((30, 4, 2), 0, 9)],
)
@pytest.mark.parametrize("block", [1, 100, 2**20])
def test_new_rows_are_the_same_in_every_block_size(
    shape: tuple[int, ...], axis: int, count: int, fill: str, dtype: object, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surgery, "_BLOCK", block)
    old = table(*shape, dtype=dtype)
    grow = surgery.Grow("embed.weight", axis, count, fill, 0.02, seed=3)
    new = grow.apply(old)
    expected = at_once(np.moveaxis(old, axis, 0), grow).astype(dtype)
    rows = np.moveaxis(new, axis, 0)
    assert new.dtype == old.dtype and new.flags.c_contiguous
    assert np.array_equal(rows[: shape[axis]], np.moveaxis(old, axis, 0))
    assert rows[shape[axis] :].tobytes() == expected.tobytes()


@pytest.mark.parametrize("fill", ["mean", "normal", "zeros"])
def test_growing_takes_memory_of_a_small_multiple_of_the_table(fill: str) -> None:
    old = table(5000, 64)
    grow = surgery.Grow("embed.weight", 0, 3000, fill, 0.02, seed=3)
    tracemalloc.start()
    try:
        new = grow.apply(old)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The table as float64, the block of random numbers and its product, beside the new table.
    assert peak < new.nbytes + 2 * old.nbytes + 2 * 8 * surgery._BLOCK


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_the_block_of_a_long_table_is_smaller_than_the_table(dtype: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surgery, "_BLOCK", 1)
    old = table(5000, 64, dtype=dtype)
    tracemalloc.start()
    try:
        new = surgery.Grow("embed.weight", 0, 3000, "mean", 0.02, seed=3).apply(old)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < new.nbytes + 3.5 * old.size * 4


@pytest.mark.parametrize("tie", [True, False])
def test_a_vocabulary_larger_than_the_memory_is_refused_before_anything_is_read(
    tie: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LlamaConfig(
        vocab_size=100, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=tie,
    )  # fmt: skip
    schema = declared_schema(config, "LlamaForCausalLM")
    assert schema is not None
    monkeypatch.setattr(surgery, "memory_of_the_machine", lambda: 2**30)
    fits = 2**30 // (2 * 16)
    assert surgery.plan_resize(schema, config, fits).config_changes == {"vocab_size": fits}
    for size in (fits + 1, 2**31 - 1):
        with pytest.raises(ArgumentError, match=r"larger than the memory[^$]*embed_tokens"):
            surgery.plan_resize(schema, config, size)
    monkeypatch.setattr(surgery, "memory_of_the_machine", lambda: None)
    assert surgery.plan_resize(schema, config, 2**31 - 1).edits


def test_the_memory_of_this_machine_is_known_where_it_says() -> None:
    memory = surgery.memory_of_the_machine()
    assert memory is None or memory > 2**26
