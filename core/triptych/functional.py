"""The arithmetic on shapes, positions and masks that all three frameworks share.

Every function takes `ops`, a backend's `ops` module: the same few functions under the same names in torch, TensorFlow
and JAX. So what could differ between frameworks is written once, and the backends keep the layer calls.

Shapes: B batch, Q query length, K key length, N heads, D head_dim, H hidden.
"""

from __future__ import annotations

from typing import Any

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError

ACTIVATIONS = (
    "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "quick_gelu", "relu", "silu", "swish", "tanh",
)  # fmt: skip


def activation(ops: Any, name: str, x: Any) -> Any:
    """Apply the activation `name` as transformers names it: "gelu" is exact, "gelu_new" the tanh approximation."""
    if name in ("gelu", "gelu_python"):
        return ops.gelu(x, approximate=False)
    if name in ("gelu_new", "gelu_fast", "gelu_pytorch_tanh"):
        return ops.gelu(x, approximate=True)
    if name in ("silu", "swish"):
        return x * ops.sigmoid(x)
    if name == "quick_gelu":
        return x * ops.sigmoid(1.702 * x)
    return ops.tanh(x) if name == "tanh" else ops.relu(x)


def split_heads(ops: Any, x: Any, head_dim: int) -> Any:
    """[B, Q, N * D] -> [B, N, Q, D]."""
    batch, length, _ = ops.shape(x)
    return ops.transpose(ops.reshape(x, (batch, length, -1, head_dim)), (0, 2, 1, 3))


def merge_heads(ops: Any, x: Any, width: int) -> Any:
    """[B, N, Q, D] -> [B, Q, N * D], of which `width` is the length."""
    batch, _, length, _ = ops.shape(x)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, length, width))


def attend(
    ops: Any, query: Any, key: Any, value: Any, bias: Any, scale: float, dropout: Any, head_mask: Any = None
) -> tuple[Any, Any]:
    """Return context [B, N, Q, D] and probabilities [B, N, Q, K] of scaled dot-product attention.

    `bias` is added to the scores (0 where attended, the dtype's lowest value where not), or None. `dropout` is applied
    to the probabilities, which `head_mask` then multiplies (Vaswani et al., 2017; Michel et al., 2019).
    """
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * scale
    if bias is not None:
        scores = scores + bias
    probabilities = dropout(ops.softmax(scores))
    if head_mask is not None:
        probabilities = probabilities * head_mask
    return ops.matmul(probabilities, value), probabilities


def padding_bias(ops: Any, attention_mask: Any, dtype: Any) -> Any:
    """Turn a mask of 1 and 0, [B, K] or [B, Q, K], into what is added to scores, broadcastable to [B, N, Q, K]."""
    if attention_mask is None:
        return None
    rank = len(attention_mask.shape)
    if rank not in (2, 3):
        raise ArgumentError("attention_mask has a wrong rank.", expected="2 or 3", received=str(rank))
    mask = attention_mask[:, None, None, :] if rank == 2 else attention_mask[:, None, :, :]
    return (1 - ops.cast(mask, dtype)) * ops.lowest(dtype)


def head_masks(ops: Any, head_mask: Any, config: PretrainedConfig, dtype: Any) -> list[Any]:
    """Return one mask per layer, broadcastable to [B, N, Q, K], from [N] or [layers, N]; None where all heads count.

    Heads are numbered as they were before pruning: a pruned layer takes those of its heads that it still has.
    """
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    if head_mask is None:
        return [None] * layers
    shape = tuple(head_mask.shape)
    if shape not in ((heads,), (layers, heads)):
        raise ArgumentError(
            "head_mask has a wrong shape.", expected=f"({heads},) or ({layers}, {heads})", received=str(shape)
        )
    masks = []
    for layer in range(layers):
        row = ops.cast(head_mask if len(shape) == 1 else head_mask[layer], dtype)
        gone = config.pruned_heads.get(layer, ())
        if gone:
            row = ops.take(row, [head for head in range(heads) if head not in gone], 0)
        masks.append(row[None, :, None, None])
    return masks


def positions(ops: Any, reference: Any, start: Any = 0) -> Any:
    """Return position ids [1, Q], from `start`, for ids or embeddings `reference` of [B, Q, ...]."""
    return (ops.arange(ops.shape(reference)[1], reference) + start)[None, :]


def one_input(input_ids: Any, inputs_embeds: Any) -> None:
    """Raise unless exactly one of the two is given."""
    if (input_ids is None) == (inputs_embeds is None):
        received = "neither" if input_ids is None else "both"
        raise ArgumentError("Which input?", expected="either input_ids or inputs_embeds", received=received)


def output_flags(
    config: PretrainedConfig, attentions: bool | None, hidden_states: bool | None, return_dict: bool | None
) -> tuple[bool, bool, bool]:
    """Return the three flags, each from the call or, if None there, from the config."""
    return (
        bool(config.output_attentions if attentions is None else attentions),
        bool(config.output_hidden_states if hidden_states is None else hidden_states),
        bool(config.return_dict if return_dict is None else return_dict),
    )


def classification_loss(ops: Any, config: PretrainedConfig, logits: Any, labels: Any) -> Any:
    """Return the mean loss that `config.problem_type` asks for, or that labels and num_labels imply.

    One label means regression (mean squared error); integer labels, cross-entropy; others, binary cross-entropy.
    """
    kind = config.problem_type
    if kind is None:
        single = config.num_labels > 1 and ops.is_integer(labels)
        kind = "single_label_classification" if single else "multi_label_classification"
        kind = "regression" if config.num_labels == 1 else kind
    if kind == "single_label_classification":
        return token_loss(ops, logits, labels)
    if kind == "regression":
        difference = ops.reshape(logits, (-1,)) - ops.cast(ops.reshape(labels, (-1,)), logits.dtype)
        return ops.mean(difference * difference)
    targets = ops.cast(labels, logits.dtype)
    return ops.mean(ops.softplus(logits) - logits * targets)


def token_loss(ops: Any, logits: Any, labels: Any, ignore_index: int = -100) -> Any:
    """Return the mean cross-entropy of `logits` [..., C] against integer `labels` [...], without `ignore_index`."""
    classes = ops.shape(logits)[-1]
    logits, labels = ops.reshape(logits, (-1, classes)), ops.reshape(labels, (-1,))
    counted = labels != ignore_index
    losses = ops.cross_entropy(logits, ops.where(counted, labels, ops.zeros_like(labels)))
    weights = ops.cast(counted, losses.dtype)
    return ops.sum(losses * weights) / ops.sum(weights)


def span_loss(ops: Any, start_logits: Any, end_logits: Any, start: Any, end: Any) -> Any:
    """Return the mean of the losses of start and end positions [B]; positions beyond the text are not counted."""

    def one(logits: Any, labels: Any) -> Any:
        labels = ops.reshape(labels, (-1,))
        inside = (labels >= 0) & (labels < ops.shape(logits)[1])
        return token_loss(ops, logits, ops.where(inside, labels, ops.zeros_like(labels) - 100))

    return (one(start_logits, start) + one(end_logits, end)) / 2
