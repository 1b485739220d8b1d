"""Adapters on live modules of PyTorch: an adapted layer has their factors as modules below it, and a hook adds them.

The names are those of peft, `query.lora_A.default.weight`; the layer's own weights keep theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import nn

from triptych.adapters.held import Adapter, of_scale
from triptych.adapters.state import named
from triptych.adapters.targets import Target
from triptych.errors import ArgumentError
from triptych.modeling.adapting import Adapting
from triptych.tensors.ref import TensorRef
from triptych_pt import arrays, internals
from triptych_pt.make import Conv1D, Dropout
from triptych_pt.packed import PackedEmbedding, PackedLinear

A, B, DROPOUT = "lora_A", "lora_B", "lora_dropout"
EMBEDDING_A, EMBEDDING_B = "lora_embedding_A", "lora_embedding_B"
_PLACES = (A, B, DROPOUT, EMBEDDING_A, EMBEDDING_B)


class Factors(nn.ModuleDict):
    """Modules of a layer, one for each adapter."""


class EmbeddingFactors(nn.ParameterDict):
    """Parameters of an embedding, one for each adapter."""


def added(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
    """Return the output of `layer` with the changes of the adapters that act: a forward hook."""
    x = (args[0] if args else next(iter(kwargs.values()))).to(output.device)
    for name, scale in layer.lora_scales.items():
        if is_table(layer):
            table, outer = getattr(layer, EMBEDDING_A)[name], getattr(layer, EMBEDDING_B)[name]
            change = F.linear(F.embedding(x.to(table.device), table.T), outer)
        else:
            inner, outer = getattr(layer, A)[name], getattr(layer, B)[name]
            dropped = getattr(layer, DROPOUT)[name](x.to(inner.weight.device, inner.weight.dtype))
            change = outer(inner(dropped))
        output = output + (change * scale).to(output.device, output.dtype)
    return output


def is_table(layer: nn.Module) -> bool:
    """Return whether a layer that can be adapted is called with the numbers of rows."""
    return isinstance(layer, (nn.Embedding, PackedEmbedding))


def is_of_adapters(module: nn.Module) -> bool:
    """Return whether `module` holds weights of adapters, and none of the model."""
    return isinstance(module, (Factors, EmbeddingFactors))


class Adapts(Adapting):
    """Part of `PreTrainedModel`."""

    _adapter_state_dicts = True
    named_modules: Any
    get_submodule: Any
    _owner: Any
    _placement: Any
    _value_of: Any

    @property
    def peft_config(self) -> Any:
        """See `ActingAdapters`; of a model that peft has within one of its own, what it says here."""
        said = vars(self).get("_peft_config")
        return super().peft_config if said is None else said

    @peft_config.setter
    def peft_config(self, value: Any) -> None:
        vars(self)["_peft_config"] = value

    @peft_config.deleter
    def peft_config(self) -> None:
        vars(self).pop("_peft_config", None)

    def _hold_adapter(self, name: str, factors: Mapping[Target, tuple[np.ndarray, np.ndarray]], rate: float) -> None:
        if hasattr(Factors(), name) or hasattr(EmbeddingFactors(), name):
            raise ArgumentError("PyTorch keeps this name for itself.", expected="another name of the adapter",
                                received=name)  # fmt: skip
        layers = {target: self._adaptable(target) for target in factors}
        for target, (a, b) in factors.items():
            layer = layers[target]
            if not hasattr(layer, "lora_scales"):
                layer.lora_scales = {}
                layer.adapter_hook = layer.register_forward_hook(added, with_kwargs=True)
            device = layer.weight.device if self._placement is None else self._placement.runs_on(target.module)
            first, second = (nn.Parameter(arrays.to_native(one).to(device), requires_grad=False) for one in (a, b))
            if target.is_embedding:
                _place(layer, EMBEDDING_A, EmbeddingFactors)[name] = first
                _place(layer, EMBEDDING_B, EmbeddingFactors)[name] = second
            else:
                _place(layer, A, Factors)[name] = _projection(first)
                _place(layer, B, Factors)[name] = _projection(second)
                _place(layer, DROPOUT, Factors)[name] = Dropout(rate).train(layer.training)

    def _adaptable(self, target: Target) -> Any:
        """Return the layer of `target`.

        Raises:
            ArgumentError: it is of no kind whose call computes with its matrix.
        """
        layer = self.get_submodule(target.module)
        scope = target.module.rpartition(".")[0]
        inside = isinstance(self.get_submodule(scope) if scope else self, nn.MultiheadAttention)
        if inside or not isinstance(layer, (nn.Linear, nn.Embedding, Conv1D, PackedLinear, PackedEmbedding)):
            raise ArgumentError(
                f"{target.module} cannot be adapted.",
                expected="a module of nn.Linear, nn.Embedding or Conv1D that is called",
                received="a part of nn.MultiheadAttention, which is not" if inside else type(layer).__name__,
                remedy="leave it out of target_modules",
            )
        return layer

    def _drop_adapter(self, name: str) -> None:
        for _, layer in self._adapted():
            layer.lora_scales.pop(name, None)
            for place in _PLACES:
                held = getattr(layer, place, None)
                if held is not None and name in held:
                    del held[name]
            if not any(len(getattr(layer, place, ())) for place in (A, EMBEDDING_A)):
                for place in _PLACES:
                    if hasattr(layer, place):
                        delattr(layer, place)
                layer.adapter_hook.remove()
                del layer.lora_scales, layer.adapter_hook

    def _adapted(self) -> list[tuple[str, Any]]:
        """Return every layer with adapters, and its name."""
        return [(name, module) for name, module in self.named_modules() if "lora_scales" in vars(module)]

    def _adapter_factors(self, name: str) -> dict[str, tuple[Any, Any]]:
        held = self._some_adapters().held[name]
        places = {one.module: _pair(self.get_submodule(one.module), name, one) for one in held.targets}
        return {module: tuple(self._value_of(*place) for place in pair) for module, pair in places.items()}  # type: ignore[misc]

    def _act_adapters(self, scales: Mapping[str, Mapping[str, float]]) -> None:
        for name, layer in self._adapted():
            layer.lora_scales = of_scale(scales, name)

    def _train_adapters(self, adapters: Collection[str], weights: Collection[str]) -> None:
        for weight in self.schema.stored():
            tensor = internals.own_tensor(*self._owner(weight.name))
            if isinstance(tensor, nn.Parameter):
                tensor.requires_grad_(weight.name in weights and tensor.is_floating_point())
        state = self._adapters_held()
        for name, adapter in () if state is None else state.held.items():
            for one in adapter.targets:
                for owner, leaf in _pair(self.get_submodule(one.module), name, one):
                    tensor = internals.own_tensor(owner, leaf)
                    tensor.requires_grad_(name in adapters and not tensor.is_meta)

    def _adapter_of_state(self, adapter: Adapter, name: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        found, factors = {}, {}
        for one in adapter.targets:
            places = (EMBEDDING_A, EMBEDDING_B) if one.is_embedding else (A, B)
            leaf = "" if one.is_embedding else ".weight"
            factors[one.module] = tuple(_noted(state_dict, f"{one.module}.{place}.{name}{leaf}") for place in places)
        whole = {weight: _noted(state_dict, weight) for weight in adapter.names}
        for key, ref in named(adapter.targets, factors, whole).items():  # type: ignore[arg-type]
            found[key] = state_dict[ref.name]
        return found


def _noted(state_dict: Mapping[str, Any], name: str) -> TensorRef:
    if name not in state_dict:
        raise ArgumentError("state_dict lacks a weight of the adapter.", expected=name, received="none")
    return TensorRef(name, np.dtype(np.float32), (), lambda: np.zeros(()))


def _place(layer: nn.Module, name: str, kind: type) -> Any:
    if not hasattr(layer, name):
        setattr(layer, name, kind())
    return getattr(layer, name)


def _projection(weight: nn.Parameter) -> nn.Linear:
    outs, ins = weight.shape
    with internals.parameters_on_meta():
        layer = nn.Linear(ins, outs, bias=False)
    layer.weight = weight
    vars(layer)["_is_hf_initialized"] = True  # init_weights leaves it as it is
    return layer


def _pair(layer: Any, name: str, target: Target) -> list[tuple[nn.Module, str]]:
    """Return where A and B of an adapter are: modules, and the names of their parameters."""
    if target.is_embedding:
        return [(getattr(layer, EMBEDDING_A), name), (getattr(layer, EMBEDDING_B), name)]
    return [(getattr(layer, A)[name], "weight"), (getattr(layer, B)[name], "weight")]
