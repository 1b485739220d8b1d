"""What transformers says of its own models, to hold against what triptych declares: weights, epsilons, layers.

Nothing here asks a declaration of triptych, or imports it, so that `tests/record_witness.py` can use it beside an old
transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

LAYOUTS = {"Linear": ("linear", "bias"), "Conv1D": ("conv1d", "bias"), "Embedding": ("embedding", "embedding")}
NORM = ("norm", "norm_bias")
EPSILONS = ("eps", "epsilon", "variance_epsilon")


@dataclass(frozen=True)
class Seen:
    """One name of a model's weights; `tied_to` is the name under which the tensor is stored, if that is another."""

    shape: tuple[int, ...]
    dtype: str
    layout: str
    tied_to: str | None = None


def weights_of(model: Any) -> dict[str, Seen]:
    """Return every name of a torch model's state; which of them are one tensor is seen by its identity."""
    tensors = model.state_dict(keep_vars=True)
    tied = getattr(model, "all_tied_weights_keys", None)  # transformers 5
    copies = (model._tied_weights_keys or ()) if tied is None else tied
    stored: dict[int, str] = {}
    for name in sorted(tensors, key=lambda name: name in copies):
        stored.setdefault(id(tensors[name]), name)
    return {
        name: Seen(
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            _layout(model, name),
            None if stored[id(tensor)] == name else stored[id(tensor)],
        )
        for name, tensor in tensors.items()
    }


def _layout(model: Any, name: str) -> str:
    owner, _, leaf = name.rpartition(".")
    kinds = [cls.__name__ for cls in type(model.get_submodule(owner)).__mro__]
    otherwise = NORM if "Norm" in kinds[0] else ("parameter", "bias")
    weight, bias = next((LAYOUTS[kind] for kind in kinds if kind in LAYOUTS), otherwise)
    return bias if leaf == "bias" else weight


def epsilons_of(model: Any) -> dict[str, float]:
    """Return the epsilon of every norm of a torch model, by the name of the module."""
    found = {name: [getattr(m, e) for e in EPSILONS if hasattr(m, e)] for name, m in model.named_modules()}
    return {name: values[0] for name, values in found.items() if values}


def rates_of(model: Any) -> dict[str, float]:
    """Return the rate of every layer of dropout of a torch model, by the name of the module."""
    return {name: module.p for name, module in model.named_modules() if type(module).__name__ == "Dropout"}


@cache
def reference(stem: str, config_json: str, **options: Any) -> Any:
    """Return a new model of transformers' class `stem` for a config.json's text, without values, its weights tied."""
    import json

    import torch
    import transformers

    cls = getattr(transformers, stem)
    with torch.device("meta"):
        model = cls(cls.config_class.from_dict(json.loads(config_json)), **options)
    model.tie_weights()
    return model


def declared(schema: Any, theirs: Iterable[str]) -> dict[str, Seen]:
    """Return a schema as `weights_of` returns a model. An alias that `theirs` has and the schema does not is another
    name of its weight: T5's `encoder.embed_tokens.weight`."""
    found = {w.name: Seen(w.shape, "float32", w.layout.value, w.tied_to) for w in schema.values()}
    for weight in schema.values():
        for alias in set(weight.aliases) & set(theirs) - set(found):
            found[alias] = Seen(weight.shape, "float32", weight.layout.value, weight.tied_to or weight.name)
    return found


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return one line for each name that only one of the two has, or of which they say different things."""
    lines = [f"{name}: transformers has it" for name in theirs if name not in ours]
    lines += [f"{name}: transformers does not have it" for name in ours if name not in theirs]
    for name in (name for name in ours if name in theirs and ours[name] != theirs[name]):
        one, other = (asdict(s[name]) if isinstance(s[name], Seen) else {"value": s[name]} for s in (ours, theirs))
        unlike = [f"{key} {one[key]}, in transformers {other[key]}" for key in one if one[key] != other[key]]
        lines.append(f"{name}: {'; '.join(unlike)}")
    return lines


def assert_none(lines: list[str]) -> None:
    """Raise AssertionError with all of the lines, if there are any."""
    assert not lines, "\n".join(lines)


OTHER_INPUTS = ("decoder.embed_positions",)
"""Layers whose input is not to be compared: OPT's positions get the attention mask in transformers."""
Calls = dict[str, tuple[Any, Any]]
"""Name of a layer -> what went in and what came out, in the order of the calls."""


def calls_of(model: Any, run: Callable[[], Any]) -> tuple[Any, Calls]:
    """Return what `run` returns, which runs a torch model, and the first call of each layer that has weights."""
    calls: Calls = {}

    def keeper(name: str) -> Callable[[Any, Any, Any], None]:
        def keep(layer: Any, inputs: Any, output: Any) -> None:
            calls.setdefault(name, (inputs[0], output))

        return keep

    layers = [(name, module) for name, module in model.named_modules() if list(module.parameters(recurse=False))]
    hooks = [module.register_forward_hook(keeper(name)) for name, module in layers]
    try:
        return run(), calls
    finally:
        for hook in hooks:
            hook.remove()


def calls_that_differ(ours: Calls, theirs: Calls, close: Callable[[Any, Any], bool]) -> list[str]:
    """Return the layers, in the order of their calls, that do not get or do not give what transformers' do."""
    lines = []
    for name in (name for name in ours if name in theirs):
        pairs = zip(("input", "output"), ours[name], map(_by_token, theirs[name], ours[name]), strict=True)
        kept = [pair for pair in pairs if not (pair[0] == "input" and name.endswith(OTHER_INPUTS))]
        unlike = [side for side, one, other in kept if not close(_arranged(one, other), other)]
        lines += [f"{name}: {' and '.join(unlike)}"] if unlike else []
    return lines


def _by_token(theirs: Any, ours: Any) -> Any:
    """Return a tensor [B * Q, H], as OPT's feed-forward gets it, as [B, Q, H]."""
    return theirs.reshape(ours.shape) if (theirs.ndim, ours.ndim) == (2, 3) else theirs


def _arranged(one: Any, other: Any) -> Any:
    """Return a tensor as `other` is: heads before queries or after them, one row for all texts or one for each."""
    if one.ndim == 4 and one.shape != other.shape:
        one = one.transpose(1, 2)
    return one.expand_as(other) if one.shape[1:] == other.shape[1:] and one.shape[0] == 1 else one
