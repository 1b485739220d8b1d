"""What models have in common: a stack of layers, the backbone's result, and the output of a head."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triptych.errors import ArgumentError
from triptych.nn import outputs
from triptych.nn.growing_cache import GrowingCache
from triptych.nn.heads import task_output

States = tuple[list[Any], list[Any]]
Arguments = Sequence[tuple[Any, ...] | Mapping[str, Any]]
logger = logging.getLogger("triptych")


def run_layers(layers: Any, hidden: Any, arguments: Arguments, *, stack: Any = None, **shared: Any) -> States:
    """Return the states before and after each layer, and the attentions of each.

    `arguments` are those of each layer, by place or by name, `shared` those of all. What is no array goes by name: so
    Keras asks. `stack` is the part whose layers these are, which may be told to compute them anew: see `caller`.
    """
    states, more = run_each(layers, hidden, arguments, stack=stack, **shared)
    return states, [probabilities for probabilities, *_ in more]


def run_each(
    layers: Any, hidden: Any, arguments: Arguments, hidden_last: bool = False, *, stack: Any = None, keep: bool = True,
    **shared: Any,
) -> States:  # fmt: skip
    """Return the states before and after each layer, and a list of what else each returned, as `run_layers` does.

    Layers return a tuple: hidden states and more, or with `hidden_last` more and hidden states. Without `keep` there is
    the last state alone, and the others are freed where no gradient needs them.
    """
    call = caller(stack, shared.get("cache", shared.get("past_key_value")))
    states, more = [hidden], []
    for layer, extra in zip(layers, arguments, strict=True):
        placed, named = ((), extra) if isinstance(extra, Mapping) else (extra, {})
        returned = call(layer, hidden, *placed, **named, **shared)
        hidden = returned[-1 if hidden_last else 0]
        states = [*states, hidden] if keep else [hidden]
        more.append(returned[:-1] if hidden_last else returned[1:])
    return states, more


def caller(stack: Any, cache: Any = None) -> Callable[..., Any]:
    """Return what calls the layers of a part: `call(layer, *arguments, **arguments)`. They return a tuple, without
    tuples in it.

    While a part whose `gradient_checkpointing` is set is trained, what its layers compute is not kept for the gradient,
    but computed anew. Such a call returns no cache. Over one that holds tokens, whose keys and values may be trained
    too, layers run as ever.
    """
    if not getattr(stack, "gradient_checkpointing", False) or not stack.ops.is_training(stack):
        return _plain
    if cache is not None:
        if not (isinstance(cache, GrowingCache) and cache.stay_empty()):
            return _plain
        if cache.asked:
            logger.warning("use_cache=True has no effect while layers are computed anew for the gradient.")
    return functools.partial(stack.ops.recomputed, stack)


def _plain(layer: Any, *args: Any, **kwargs: Any) -> Any:
    return layer(*args, **kwargs)


def result(kind: Any, flags: tuple[bool, bool, bool], states: States, **fields: Any) -> Any:
    """Return an output of class `kind`, or a tuple, with the states and attentions that `flags` ask for."""
    made = kind(
        **fields,
        hidden_states=tuple(states[0]) if flags[1] else None,
        attentions=tuple(states[1]) if flags[0] else None,
    )
    return made if flags[2] else made.to_tuple()


def encoder_output(given: Any) -> outputs.ModelOutput:
    """Return what a caller says that the encoder returned: an output, a mapping, or a tuple.

    Raises:
        ArgumentError: it has no `last_hidden_state` that is an array.
    """
    names = outputs.BaseModelOutput.fields()
    found = dict(given) if isinstance(given, Mapping) else {}
    if isinstance(given, (tuple, list)):
        found = dict(zip(names, given, strict=False))
    known = isinstance(given, outputs.ModelOutput) or set(found) <= set(names)
    if not (known and hasattr(found.get("last_hidden_state"), "shape")):
        raise ArgumentError(
            "encoder_outputs is no output of the encoder.",
            expected=f"an output, a mapping of {names}, or a tuple that starts with the first of them",
            received=f"{type(given).__name__} of {list(found)}",
        )
    return given if isinstance(given, outputs.ModelOutput) else outputs.BaseModelOutput(**found)


def finish(m: Any, backbone: Any, logits: Any, labels: Any, return_dict: bool | None) -> Any:
    """Return the output of a model with a head."""
    return task_output(m.ops, m.config, m.task, logits, labels, backbone, return_dict)


def finish_span(m: Any, backbone: Any, logits: Any, start: Any, end: Any, return_dict: bool | None) -> Any:
    """Return the output of a model that finds a span, from scores [B, Q, 2] and positions [B], or None."""
    # int32: TensorFlow compares only equal types, and a length known only at run time is an int32.
    labels = [p if p is None else m.ops.cast(p, "int32") for p in (start, end)]
    return finish(m, backbone, logits, labels, return_dict)
