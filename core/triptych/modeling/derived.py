"""The schema of a live module whose class declares none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from triptych.config import PretrainedConfig
from triptych.weights.schema import Axis, Layout, Schema, Weight
from triptych.weights.surgery import VOCAB

if TYPE_CHECKING:
    from triptych.modeling.base import ModelBase


def derived_schema(
    entries: Iterable[tuple[str, tuple[int, ...], Layout]],
    *,
    cls: type[ModelBase],
    config: PretrainedConfig,
    ties: Mapping[str, str],
    vocab: Iterable[str],
) -> Schema:
    """Return the schema of a live module from what its backend saw: (canonical name, shape, layout), in order.

    Args:
        ties: tied name -> name of the weight that it shares.
        vocab: names of the weights whose first axis counts tokens.
    """
    vocab_names = set(vocab)
    flag = "tie_word_embeddings"
    weights = {}
    for name, shape, layout in entries:
        first = VOCAB if name in vocab_names or ties.get(name) in vocab_names else "axis0"
        axes = tuple(Axis(first if i == 0 else f"axis{i}", length) for i, length in enumerate(shape))
        flags = {"tied_to": ties[name], "untie_flag": flag} if name in ties else {}
        backbone = not cls.base_model_prefix or name.startswith(cls.base_model_prefix + ".")
        weights[name] = Weight(name, axes, layout, backbone=backbone, **flags)  # type: ignore[arg-type]
    is_base = not any(name.startswith(f"{cls.base_model_prefix}.") for name in weights)
    if is_base:
        weights = {n: Weight(n, w.axes, w.layout, w.tied_to, w.untie_flag) for n, w in weights.items()}
    return Schema(weights, cls.base_model_prefix, is_base)


def declared_ties(cls: type[ModelBase], config: PretrainedConfig) -> dict[str, str]:
    """Return `_tied_weights_keys` as name -> source, when the config ties; a list names no sources and gives none."""
    keys = cls._tied_weights_keys
    return dict(keys) if isinstance(keys, Mapping) and getattr(config, "tie_word_embeddings", True) else {}
