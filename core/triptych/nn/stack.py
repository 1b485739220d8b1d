"""What the families have in common: a stack of layers, the backbone's result, and models with a head."""

from __future__ import annotations

from typing import Any

from triptych.nn import functional as fn
from triptych.nn.heads import task_output

States = tuple[list[Any], list[Any]]


def run_layers(layers: Any, hidden: Any, arguments: list[tuple[Any, ...]], **shared: Any) -> States:
    """Return the states before and after each layer, and the attentions of each.

    `arguments` are those of each layer, `shared` those of all. What is no array goes by name: so Keras asks.
    """
    states, attentions = [hidden], []
    for layer, extra in zip(layers, arguments, strict=True):
        hidden, probabilities = layer(hidden, *extra, **shared)
        states.append(hidden)
        attentions.append(probabilities)
    return states, attentions


def encoder(m: Any, hidden: Any, bias: Any, head_masks: list[Any]) -> States:
    """Run the layers `m.layer`."""
    return run_layers(m.layer, hidden, [(bias, mask) for mask in head_masks])


def result(kind: Any, flags: tuple[bool, bool, bool], states: States, **fields: Any) -> Any:
    """Return an output of class `kind`, or a tuple, with the states and attentions that `flags` ask for."""
    made = kind(
        **fields,
        hidden_states=tuple(states[0]) if flags[1] else None,
        attentions=tuple(states[1]) if flags[0] else None,
    )
    return made if flags[2] else made.to_tuple()


def finish(m: Any, backbone: Any, logits: Any, labels: Any, return_dict: bool | None) -> Any:
    """Return the output of a model with a head."""
    return task_output(m.ops, m.config, m.task, logits, labels, backbone, return_dict)


def score_tokens(m: Any, backbone: Any) -> Any:
    """Return `classifier` of every token, [B, Q, C]."""
    return m.classifier(m.dropout(backbone.last_hidden_state))


def score_pooled(m: Any, backbone: Any) -> Any:
    """Return `classifier` of the pooled text, [B, C]."""
    return m.classifier(m.dropout(backbone.pooler_output))


def score_span(m: Any, backbone: Any) -> Any:
    """Return start and end scores of every token, [B, Q, 2]."""
    return m.qa_outputs(backbone.last_hidden_state)


def activated(m: Any, hidden: Any) -> Any:
    """Apply `dense` and the activation `m.activation`."""
    return fn.activation(m.ops, m.activation, m.dense(hidden))
