"""Plans of a load: one clear error, naming every weight."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from triptych import (
    BertConfig,
    CheckpointError,
    ShapeMismatchError,
    TensorRef,
)
from triptych.families import declared_schema
from triptych.weights.plan import NewWeight, Policy, plan_load


@pytest.fixture
def tiny() -> tuple[object, dict[str, TensorRef]]:
    config = BertConfig(
        vocab_size=9,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=5,
        max_position_embeddings=6,
    )
    schema = declared_schema(config, "BertForMaskedLM")
    return schema, {w.name: TensorRef.of(w.name, np.zeros(w.shape, np.float32)) for w in schema.stored()}  # type: ignore[union-attr]


def test_missing_backbone_weights_are_all_named(tiny: tuple) -> None:
    schema, tensors = tiny
    gone = ["bert.embeddings.LayerNorm.bias", "bert.encoder.layer.0.output.dense.weight"]
    for name in gone:
        del tensors[name]
    with pytest.raises(CheckpointError, match=f"{gone[0]}.*{gone[1]}.*strict=False"):
        plan_load(schema, tensors, None, Policy())
    assert [w.name for w in plan_load(schema, tensors, None, Policy(strict=False)).missing] == gone


def test_a_missing_head_is_initialised_unless_strict(tiny: tuple) -> None:
    schema, tensors = tiny
    del tensors["cls.predictions.bias"]
    assert [w.name for w in plan_load(schema, tensors, None, Policy()).missing] == ["cls.predictions.bias"]
    with pytest.raises(CheckpointError, match="strict=True"):
        plan_load(schema, tensors, None, Policy(strict=True))


def test_wrong_shapes_are_refused_or_ignored(tiny: tuple) -> None:
    schema, tensors = tiny
    name = "bert.encoder.layer.0.output.dense.weight"
    tensors[name] = TensorRef.of(name, np.zeros((5, 4), np.float32))  # as many elements, transposed
    with pytest.raises(ShapeMismatchError, match=r"\(4, 5\).*\(5, 4\).*ignore_mismatched_sizes"):
        plan_load(schema, tensors, None, Policy())
    plan = plan_load(schema, tensors, None, Policy(ignore_mismatched_sizes=True))
    assert plan.mismatched == ((name, (5, 4), (4, 5)),)
    assert [new.weight.name for new in plan.to_initialise] == [name]


F16, F32, BF16 = (np.dtype(t) for t in (np.float16, np.float32, ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ((F16,), None, F16),  # that of all others
        ((BF16, np.dtype(np.int64), np.dtype(ml_dtypes.float8_e4m3fn)), None, BF16),  # storage formats do not count
        ((F16, BF16), None, F32),  # others differ
        ((np.dtype(np.int64),), None, F32),  # no others
        ((F16,), F32, F32),  # as asked for
        ((np.dtype(np.int64),), BF16, BF16),
    ],
)
def test_the_dtype_of_new_weights(
    tiny: tuple, stored: tuple[np.dtype, ...], wanted: np.dtype | None, expected: np.dtype
) -> None:
    schema, tensors = tiny
    head = "cls.predictions.bias"
    del tensors[head]
    for number, (name, ref) in enumerate(tensors.items()):
        tensors[name] = TensorRef.of(name, np.zeros(ref.shape, stored[number % len(stored)]))
    plan = plan_load(schema, tensors, wanted, Policy(strict=False))
    assert plan.to_initialise == (NewWeight(schema[head], expected),)


def test_unexpected_weights_are_reported_and_strict_refuses(tiny: tuple) -> None:
    schema, tensors = tiny
    extra = {"position": "bert.embeddings.position_ids", "other": "cls.seq_relationship.weight"}
    for name in extra.values():
        tensors[name] = TensorRef.of(name, np.zeros(1))
    assert plan_load(schema, tensors, None, Policy()).unexpected == (extra["other"],)
    with pytest.raises(CheckpointError, match="seq_relationship"):
        plan_load(schema, tensors, None, Policy(strict=True))


def test_gamma_and_beta_are_read_by_exact_name(tiny: tuple) -> None:
    schema, tensors = tiny
    for leaf, old in (("weight", "gamma"), ("bias", "beta")):
        name = f"bert.embeddings.LayerNorm.{leaf}"
        tensors[name.replace(leaf, old)] = tensors.pop(name)
    assert not plan_load(schema, tensors, None, Policy(strict=True)).missing
