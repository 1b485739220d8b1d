"""The arithmetic of activations, norms and losses that all three frameworks share.

Every function takes `ops`, a backend's `ops` module: the same few functions under the same names in torch, TensorFlow
and JAX. So what could differ between frameworks is written once, and the backends keep the layer calls.

Softmax and the losses that have logarithms are computed in float32 where their input is of a half type, since the
frameworks differ in that; mean squared error and activations stay in the dtype of their input.

Shapes: B batch, Q query length, K key length, N heads, D head_dim, H hidden, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from triptych.errors import ArgumentError

if TYPE_CHECKING:
    from triptych.config import PretrainedConfig

ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh",
    "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6", "sigmoid", "silu", "swish", "tanh",
)  # fmt: skip


def wide_dtype(ops: Any, x: Any) -> Any:
    """Return the dtype in which softmax and cross-entropies of `x` are computed: float32 for a half type, else its own.

    Norms need no such rule: `rms_norm` states its dtype, and the layer norm of each framework widens half types itself.
    """
    return "float32" if ops.is_half(x) else x.dtype


def widened(ops: Any, x: Any) -> Any:
    """Return `x` in `wide_dtype`."""
    return ops.cast(x, "float32") if ops.is_half(x) else x


def softmax(ops: Any, x: Any) -> Any:
    """Return the softmax over the last axis, computed in `wide_dtype`, in the dtype of `x`."""
    return ops.softmax(x, wide_dtype(ops, x))


def activation(ops: Any, name: str, x: Any) -> Any:
    """Apply the activation `name` as transformers names it: "gelu" is exact, "gelu_new" the tanh approximation. A
    function, as an author's config may hold one, is called.

    Raises:
        ArgumentError: the name is unknown.
    """
    if callable(name):
        return name(x)
    if name in ("gelu", "gelu_python"):
        return ops.gelu(x, approximate=False)
    if name in _TANH_GELUS:
        return ops.gelu(x, approximate=True)
    if name not in ACTIVATIONS:
        raise ArgumentError("The activation is unknown.", expected=f"one of {ACTIVATIONS}", received=repr(name)[:80])
    return _OTHERS[name](ops, x)


_TANH_GELUS = ("gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh")


def _squared(x: Any) -> Any:
    return x * x


_OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "gelu_10": lambda ops, x: ops.minimum(ops.maximum(ops.gelu(x, approximate=False), -10.0), 10.0),
    "leaky_relu": lambda ops, x: ops.relu(x) - 0.01 * ops.relu(-x),
    "linear": lambda ops, x: x,
    "mish": lambda ops, x: x * ops.tanh(ops.softplus(x)),
    "quick_gelu": lambda ops, x: x * ops.sigmoid(1.702 * x),
    "relu": lambda ops, x: ops.relu(x),
    "relu2": lambda ops, x: _squared(ops.relu(x)),
    "relu6": lambda ops, x: ops.minimum(ops.relu(x), 6.0),
    "sigmoid": lambda ops, x: ops.sigmoid(x),
    "silu": lambda ops, x: x * ops.sigmoid(x),
    "swish": lambda ops, x: x * ops.sigmoid(x),
    "tanh": lambda ops, x: ops.tanh(x),
}


def rms_norm(ops: Any, x: Any, scale: Any, epsilon: float, dtype: Any = None) -> Any:
    """Divide by the root of the mean square over the last axis, in float32, and multiply by `scale` [H]
    (Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467); the result is of `dtype`, or None: that of `x`."""
    wide, dtype = ops.cast(x, "float32"), x.dtype if dtype is None else dtype
    normed = wide * ops.rsqrt(ops.mean_last(wide * wide) + epsilon)
    return ops.cast(scale, dtype) * ops.cast(normed, dtype)


_FLOAT16_LIMIT = 64504.0
"""A little below the largest number of float16, so that a sum with a small one stays finite."""


def residual(ops: Any, hidden: Any, change: Any) -> Any:
    """Return `hidden + change`: in float32 where one of them is, and in float16 within its range, which the states of
    models that were trained in bfloat16 leave."""
    if hidden.dtype != change.dtype:
        return widened(ops, hidden) + widened(ops, change)
    summed = hidden + change
    if not ops.is_half(summed) or ops.lowest(summed.dtype) < -1e5:
        return summed
    return ops.minimum(ops.maximum(summed, -_FLOAT16_LIMIT), _FLOAT16_LIMIT)


def scores_of_vocabulary(ops: Any, head: Any, embedding: Any, hidden: Any) -> Any:
    """Return [B, Q, vocab] by the layer `head`, or where that is None, since it is tied, by the embeddings' matrix."""
    if head is not None:
        return head(hidden)
    if callable(score := getattr(embedding, "score", None)):  # it is packed
        return score(hidden)
    return ops.project(hidden, ops.cast(ops.table(embedding), hidden.dtype))


def embedded(ops: Any, table: Any, ids: Any, padding: int | None, rows: int) -> Any:
    """Return the vectors [..., H] of `ids` [...] by a layer with a table of `rows`; that of the id `padding`, counted
    from the end if it is negative, gets no gradient by it, as in a table of PyTorch."""
    vectors = table(ids)
    if padding is None:
        return vectors
    return ops.without_gradient(vectors, ids, padding + rows if padding < 0 else padding)


def word_vectors(ops: Any, config: PretrainedConfig, table: Any, input_ids: Any) -> Any:
    """Return the vectors [..., H] of words [...]; that of the padding is not trained by it: see `embedded`."""
    return embedded(ops, table, input_ids, config.pad_token_id, config.vocab_size)


def one_input(input_ids: Any, inputs_embeds: Any, axes: int | None = 2) -> None:
    """Raise unless exactly one of the two is given, ids with `axes` axes or embeddings with one more; None for any."""
    if (input_ids is None) == (inputs_embeds is None):
        received = "neither" if input_ids is None else "both"
        raise ArgumentError("Which input?", expected="either input_ids or inputs_embeds", received=received)
    name, given = ("input_ids", input_ids) if inputs_embeds is None else ("inputs_embeds", inputs_embeds)
    if axes is None:
        return
    rank = axes + (inputs_embeds is not None)
    if differ(shape_of(given), [None] * rank):
        raise ArgumentError(f"{name}: wrong shape.", expected=f"an array of {rank} axes", received=described(given))


def shape_of(x: Any) -> tuple[Any, ...] | None:
    """Return the lengths of the axes of an array, those known only at run time as None; None for what is no array."""
    return tuple(x.shape) if hasattr(x, "shape") else None


def described(x: Any) -> str:
    """Return what `x` is, for the text of an error."""
    shape = shape_of(x)
    return type(x).__name__ if shape is None else str(shape)


def differ(one: Sequence[Any] | None, other: Sequence[Any]) -> bool:
    """Return whether shapes are known to differ: in their ranks, or in an axis of which both lengths are integers."""
    if one is None or len(one) != len(other):
        return True
    pairs = zip(one, other, strict=True)
    return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)


def require_labels(labels: Any, places: Sequence[Any], flat: bool = False) -> None:
    """Raise unless there is a label for each of `places`, the shape of what is scored, as far as that is known.

    `flat` labels may be of another shape, if there are as many of them. A list is left to the framework.

    Raises:
        ArgumentError: there are others.
    """
    _require_array(labels)
    given, wanted = shape_of(labels), tuple(places)
    if given is None:
        return
    known = all(isinstance(length, int) for length in (*given, *wanted))
    wrong = known and math.prod(given) != math.prod(wanted) if flat else differ(given, wanted)
    if wrong:
        raise ArgumentError("The labels do not fit.", expected=f"labels of shape {wanted}", received=str(given))


def _require_array(labels: Any) -> None:
    if shape_of(labels) is None and not isinstance(labels, (list, tuple)):
        raise ArgumentError("The labels are no array.", expected="an array", received=repr(labels)[:80])


def output_flags(
    config: PretrainedConfig, attentions: bool | None, hidden_states: bool | None, return_dict: bool | None
) -> tuple[bool, bool, bool]:
    """Return the three flags, each from the call or, if None there, from the config."""
    return (
        bool(config.output_attentions if attentions is None else attentions),
        bool(config.output_hidden_states if hidden_states is None else hidden_states),
        bool(config.use_return_dict if return_dict is None else return_dict),
    )


def classification_loss(ops: Any, config: PretrainedConfig, logits: Any, labels: Any) -> Any:
    """Return the mean loss that `config.problem_type` asks for, or that labels and num_labels imply.

    One label means regression (mean squared error); integer labels, cross-entropy; others, binary cross-entropy.
    """
    _require_array(labels)
    kind = config.problem_type
    if kind is None:
        single = config.num_labels > 1 and ops.is_integer(labels)
        kind = "single_label_classification" if single else "multi_label_classification"
        kind = "regression" if config.num_labels == 1 else kind
    if kind == "single_label_classification":
        return token_loss(ops, logits, labels)
    require_labels(labels, logits.shape, flat=kind == "regression")
    if kind == "regression":
        difference = ops.reshape(logits, (-1,)) - ops.cast(ops.reshape(labels, (-1,)), logits.dtype)
        return ops.mean(difference * difference)
    logits = widened(ops, logits)
    targets = ops.cast(labels, logits.dtype)
    return ops.mean(ops.softplus(logits) - logits * targets)


def token_loss(ops: Any, logits: Any, labels: Any, ignore_index: int = -100) -> Any:
    """Return the mean cross-entropy of `logits` [..., C] against integer `labels` [...], without `ignore_index`."""
    require_labels(labels, logits.shape[:-1], flat=True)
    logits, classes = widened(ops, logits), ops.shape(logits)[-1]
    logits, labels = ops.reshape(logits, (-1, classes)), ops.reshape(labels, (-1,))
    counted = labels != ignore_index
    losses = ops.cross_entropy(logits, ops.where(counted, labels, ops.zeros_like(labels)))
    weights = ops.cast(counted, losses.dtype)
    return ops.sum(losses * weights) / ops.sum(weights)


def replaced_token_loss(ops: Any, logits: Any, labels: Any, attention_mask: Any) -> Any:
    """Return the mean binary cross-entropy of `logits` [B, Q] against `labels` of 0 and 1, over the masked-in tokens
    (Clark et al., 2020)."""
    require_labels(labels, logits.shape)
    logits = widened(ops, logits)
    losses = ops.softplus(logits) - logits * ops.cast(labels, logits.dtype)
    if attention_mask is None:
        return ops.mean(losses)
    weights = ops.cast(attention_mask, losses.dtype)
    return ops.sum(losses * weights) / ops.sum(weights)


def next_token_loss(ops: Any, logits: Any, labels: Any) -> Any:
    """Return the mean cross-entropy of each position's logits [B, Q, C] against the following label of [B, Q]."""
    require_labels(labels, logits.shape[:-1])
    return token_loss(ops, logits[:, :-1], labels[:, 1:])


def last_token(ops: Any, config: PretrainedConfig, logits: Any, input_ids: Any) -> Any:
    """Return the logits [B, C] of the last token of each text that is not padding, from [B, Q, C].

    Raises:
        ArgumentError: several texts, and the config has no `pad_token_id`.
    """
    batch, length, _ = ops.shape(logits)
    if config.pad_token_id is None and isinstance(batch, int) and batch > 1:
        raise ArgumentError(
            "Where do the texts of this batch end?", expected="config.pad_token_id", received="None",
            remedy="set config.pad_token_id, or classify one text at a time",
        )  # fmt: skip
    if config.pad_token_id is None or input_ids is None:
        return logits[:, -1]
    places = ops.arange(length, logits)[None, :]
    real = ops.cast(input_ids != config.pad_token_id, "int32")
    return ops.pick(logits, ops.argmax(ops.cast(places, "int32") * real))


def shifted_right(ops: Any, config: PretrainedConfig, labels: Any) -> Any:
    """Return the decoder's input ids [B, Q] for `labels`: a start token, and all labels but the last.

    Raises:
        ArgumentError: the config has no `decoder_start_token_id` or `pad_token_id`; the labels are of another rank.
    """
    require_labels(labels, (None, None))
    if config.decoder_start_token_id is None or config.pad_token_id is None:
        raise ArgumentError(
            "The decoder's input cannot be made of the labels.",
            expected="config.decoder_start_token_id and config.pad_token_id",
            received=f"{config.decoder_start_token_id} and {config.pad_token_id}",
        )
    start = ops.zeros_like(labels[:, :1]) + config.decoder_start_token_id
    shifted = ops.concat([start, labels[:, :-1]], 1)
    return ops.where(shifted == -100, ops.zeros_like(shifted) + config.pad_token_id, shifted)


def span_loss(ops: Any, start_logits: Any, end_logits: Any, start: Any, end: Any) -> Any:
    """Return the mean of the losses of start and end positions [B]; positions beyond the text are not counted."""

    def one(logits: Any, labels: Any) -> Any:
        labels = ops.reshape(labels, (-1,))
        inside = (labels >= 0) & (labels < ops.shape(logits)[1])
        return token_loss(ops, logits, ops.where(inside, labels, ops.zeros_like(labels) - 100))

    return (one(start_logits, start) + one(end_logits, end)) / 2
