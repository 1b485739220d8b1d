"""What the functions beside PyTorch's base class refuse: wrong arguments, told by what was expected."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from triptych import BertConfig, BertForMaskedLM
from triptych.errors import ArgumentError, ConfigError
from triptych_pt import utilities
from triptych_pt.authors import losses, masks
from triptych_pt.authors.caches import DynamicCache, EncoderDecoderCache
from triptych_pt.authors.fixed_caches import StaticCache

CONFIG = BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
LINEAR, CONV = nn.Linear(4, 3), utilities.Conv1D(3, 4)
ONES = torch.ones(1, 2, 3, 4)
FIXED = StaticCache(CONFIG, 1, 4)


@pytest.mark.parametrize("heads", [[4], [-1]])
def test_unknown_heads(heads: list[int]) -> None:
    with pytest.raises(ArgumentError, match="no such heads"):
        utilities.find_pruneable_heads_and_indices(heads, 4, 2, set())


@pytest.mark.parametrize(
    ("prune", "layer", "index", "dim"),
    [
        (utilities.prune_linear_layer, CONV, [0], 0),
        (utilities.prune_conv1d_layer, LINEAR, [0], 1),
        (utilities.prune_linear_layer, nn.LayerNorm(4), [0], 0),
        (utilities.prune_linear_layer, LINEAR, [3], 0),
        (utilities.prune_linear_layer, LINEAR, [-1], 0),
        (utilities.prune_linear_layer, LINEAR, [1.0], 0),
        (utilities.prune_linear_layer, LINEAR, [0], 2),
        (utilities.prune_conv1d_layer, CONV, [3], 1),
        (utilities.prune_layer, nn.LayerNorm(4), [0], 0),
    ],
)
def test_units_that_cannot_be_pruned(prune: Any, layer: Any, index: list[Any], dim: int) -> None:
    with pytest.raises(ArgumentError):
        prune(layer, torch.tensor(index), dim)


def test_dtypes_by_name_and_without_tensors() -> None:
    assert utilities.dtype_byte_size("float16") == utilities.dtype_byte_size("torch.float16") == 2
    with pytest.raises(ArgumentError, match="no dtype"):
        utilities.dtype_byte_size("float17")
    with pytest.raises(ArgumentError, match="no tensor"):
        utilities.get_state_dict_dtype({})


@pytest.mark.parametrize("fields", [{}, {"hidden_size": 8, "num_attention_heads": 0}, {"head_dim": 8}])
def test_rotary_positions_of_an_incomplete_config(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        utilities.ROPE_INIT_FUNCTIONS["linear"](SimpleNamespace(**fields))


@pytest.mark.parametrize(
    "call",
    [
        lambda: DynamicCache.from_legacy_cache([(ONES,)]),
        lambda: DynamicCache([3]),
        lambda: DynamicCache().update(ONES, ONES, -1),
        lambda: EncoderDecoderCache.from_legacy_cache([(ONES, ONES, ONES)]),
        lambda: EncoderDecoderCache(DynamicCache(), DynamicCache()).reset(),
        lambda: EncoderDecoderCache(FIXED, FIXED).crop(1),
    ],
)
def test_caches(call: Any) -> None:
    with pytest.raises(ArgumentError):
        call()


@pytest.mark.parametrize(
    ("mask", "dtype", "keys"),
    [
        (torch.ones(1, 3, 3), torch.float32, 3),
        (torch.ones(1, 3), torch.int64, 3),
        (torch.ones(1, 3), "float32", 3),
        (torch.ones(1, 3), torch.float32, 5),
    ],
)
def test_masks(mask: torch.Tensor, dtype: Any, keys: int) -> None:
    with pytest.raises(ArgumentError):
        masks.AttentionMaskConverter(True).to_4d(mask, 3, dtype, keys)


def test_a_loss_of_another_problem() -> None:
    config = SimpleNamespace(problem_type="ranking", num_labels=2)
    with pytest.raises(ArgumentError, match="problem_type"):
        losses.ForSequenceClassificationLoss(torch.tensor([0]), torch.ones(1, 2), config)


def test_plans_compilation_and_checkpointing_of_a_model() -> None:
    model: Any = BertForMaskedLM(CONFIG)
    for name in ("tp_plan", "pp_plan"):
        with pytest.raises(ArgumentError, match="no plan"):
            setattr(model, name, 3)
    with pytest.raises(ArgumentError, match="CompileConfig"):
        model.get_compiled_call("fast")
    with pytest.raises(ArgumentError, match="no dict"):
        model.gradient_checkpointing_enable(3)
