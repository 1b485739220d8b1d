"""The named axes that configs give: those of weights, and of the heads that a layer still has."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from triptych.errors import ConfigError
from triptych.weights.schema import Axis

if TYPE_CHECKING:
    from triptych.config import PretrainedConfig


def heads_axis(config: PretrainedConfig, layer: int) -> Axis:
    """Return the axis of the (query) heads that layer `layer` still has."""
    gone, width = set(config.pruned_heads.get(layer, ())), head_width(config)
    if not gone:
        return Axis("heads", config.num_attention_heads, block=width, layer=layer)
    kept = tuple(head for head in range(config.num_attention_heads) if head not in gone)
    return Axis("heads", len(kept), block=width, ids=kept, layer=layer)


def head_width(config: PretrainedConfig) -> int:
    """Return the width of a head; the config of an author's class need not name it."""
    named: int | None = getattr(config, "head_dim", None)
    return config.hidden_size // config.num_attention_heads if named is None else named


def kv_heads_axis(config: PretrainedConfig, layer: int) -> Axis:
    """Return the axis of the key and value heads of layer `layer`: those that some query head still uses.

    Raises:
        ConfigError: `pruned_heads` leaves them different numbers of query heads.
    """
    group = config.num_attention_heads // config.num_key_value_heads
    if not config.pruned_heads.get(layer):
        return Axis("kv_heads", config.num_key_value_heads, block=config.head_dim, layer=layer, group=group)
    counts = Counter(head // group for head in heads_axis(config, layer).unit_ids)
    used = tuple(counts)
    if len(set(counts.values())) > 1:
        raise ConfigError(
            f"`pruned_heads` of layer {layer} leaves groups of different sizes.",
            expected=f"whole groups of {group} heads, or the same number of heads from every group",
            received=str(config.pruned_heads[layer]),
        )
    return Axis("kv_heads", len(used), block=config.head_dim, ids=used, layer=layer, group=group)


def hidden_axis(config: PretrainedConfig) -> Axis:
    """Return the axis of the hidden size."""
    return Axis("hidden", config.hidden_size)


def embedding_axis(config: PretrainedConfig) -> Axis:
    """Return the axis of embeddings that may be narrower than the hidden size."""
    return Axis("hidden", getattr(config, "embedding_width", config.hidden_size))


def vocab_axis(config: PretrainedConfig) -> Axis:
    """Return the axis of the tokens."""
    return Axis("vocab", config.vocab_size)


def labels_axis(config: PretrainedConfig) -> Axis:
    """Return the axis of the scores of a classifier."""
    return Axis("labels", config.num_labels)
