"""`PreTrainedModel`: the plans of core, carried out on a `torch.nn.Module`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from triptych.config import PretrainedConfig
from triptych.modeling.base import ModelBase, refuse_unknown
from triptych.modeling.derived import LiveWeight, declared_ties
from triptych.modeling.hooks import Answer
from triptych.nn.parts import Model
from triptych.tensors.dtypes import parse_param_dtype
from triptych.weights.plan import Assignment, NewWeight
from triptych.weights.schema import Schema, Weight
from triptych_pt import arrays, make, ops
from triptych_pt.internals import building_empty, parameters_on_meta
from triptych_pt.layers import describe, layout_of
from triptych_pt.make import Conv1D, RMSNorm

__all__ = ["PreTrainedModel"]


class PreTrainedModel(nn.Module, ModelBase):
    """Base class of PyTorch models. Subclasses build their modules in `__init__` and end it with `self.post_init()`.

    Raises:
        ArgumentError: the config is not of `config_class`. ConfigError: a field was set to an impossible value.
    """

    framework = "pt"
    class_prefix = ""
    ops: ClassVar[Any] = ops
    make: ClassVar[Any] = make

    def __init_subclass__(cls, part: type[Model] | None = None, **kwargs: Any) -> None:
        """Take over the layers and the arithmetic of `part`, a declaration, if the class statement names one."""
        super().__init_subclass__(**kwargs)
        if part is not None:
            make.binder.declare(cls, part)

    def __init__(self, config: PretrainedConfig, *inputs: Any, **kwargs: Any) -> None:
        self._check_config(config)
        super().__init__()
        self.config = config

    def post_init(self) -> None:
        """Initialise and tie the weights; a load calls it too, while no weight has a value yet."""
        if not building_empty():
            for module in self.modules():
                self._init_weights(module)
        self.tie_weights()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module: normal with `config.initializer_range`, zero biases, unit norms."""
        own: float | None = getattr(module, "initial_std", None)
        std: float = getattr(self.config, "initializer_range", 0.02) if own is None else own
        if isinstance(module, (nn.Linear, nn.Embedding, Conv1D)):
            nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                with torch.no_grad():
                    module.weight[module.padding_idx].zero_()
        if isinstance(module, (nn.LayerNorm, RMSNorm)) and module.weight is not None:
            nn.init.ones_(module.weight)
        if isinstance(module, (nn.Linear, nn.LayerNorm, Conv1D)) and module.bias is not None:
            nn.init.zeros_(module.bias)

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """Return a new model with freshly initialised weights; `dtype` is that of the parameters."""
        wanted, before = parse_param_dtype(kwargs.pop("dtype", None)), torch.get_default_dtype()
        torch.set_default_dtype(before if wanted is None else arrays.native_dtype(wanted))
        try:
            return ModelBase.from_config.__func__(cls, config, **kwargs)  # type: ignore[attr-defined]
        finally:
            torch.set_default_dtype(before)

    # -- embeddings and ties ------------------------------------------------------------------------------------

    def tie_weights(self) -> None:
        """Make tied weights one parameter, as the schema or `_tied_weights_keys` declares."""
        for name, (source, _) in declared_ties(self).items():
            module, leaf = self._owner(name)
            module.register_parameter(leaf, self.get_parameter(source))

    # -- hooks of ModelBase -------------------------------------------------------------------------------------

    @classmethod
    def _param_dtype(cls, dtype: Any, param_dtype: Any) -> np.dtype | None:
        return parse_param_dtype(dtype if param_dtype is None else param_dtype)

    @classmethod
    @contextmanager
    def _empty(cls, config: PretrainedConfig, schema: Schema, **options: Any) -> Iterator[Any]:
        del options["dtype"]  # of the parameters: the plan has it
        model = cls._without_values(config, options)
        if not cls._is_its_part():
            model.tie_weights()  # for a class whose constructor did not
        with model._sharing_kept():
            yield model
        model.eval()

    @classmethod
    def _without_values(cls, config: PretrainedConfig, options: Mapping[str, Any]) -> Any:
        known = inspect.signature(cls.__init__).parameters
        refuse_unknown({name: value for name, value in options.items() if name not in known}, cls)
        with parameters_on_meta():
            return cls(config, **options)

    def _assign(
        self,
        assignment: Assignment,
        read: Callable[[Assignment], np.ndarray],
        done: Callable[[Assignment], None],
    ) -> None:
        self._set(assignment.weight.name, arrays.to_native(read(assignment)))
        done(assignment)

    def _initialise(self, new: Sequence[NewWeight]) -> None:
        owners: dict[nn.Module, set[str]] = {}
        for one in new:
            owner, leaf = self._owner(one.weight.name)
            self._set(one.weight.name, torch.zeros(one.weight.shape, dtype=arrays.native_dtype(one.dtype)))
            owners.setdefault(owner, set()).add(leaf)
        for owner, leaves in owners.items():
            loaded = {n: p.detach().clone() for n, p in owner.named_parameters(recurse=False) if n not in leaves}
            self._init_weights(owner)
            with torch.no_grad():
                for name, value in loaded.items():
                    owner.get_parameter(name).copy_(value)

    def _reader(self, params: Any = None) -> Callable[[Weight], np.ndarray]:
        return lambda weight: arrays.to_numpy(self.get_parameter(weight.name))

    def _dtype_of(self, weight: Weight, params: Any = None) -> np.dtype:
        return arrays.numpy_dtype(self.get_parameter(weight.name).dtype)

    def _replace(self, new: Mapping[str, np.ndarray]) -> None:
        with self._sharing_kept():
            for name, array in new.items():
                old = self.get_parameter(name)
                self._set(name, arrays.to_native(array).to(old.device), old.requires_grad)
        self.tie_weights()
        for module in self.modules():
            describe(module)

    def _live_weights(self) -> list[LiveWeight]:
        return [
            LiveWeight(f"{scope}.{leaf}" if scope else leaf, tuple(p.shape), layout_of(module, leaf), id(p))
            for scope, module in self.named_modules(remove_duplicate=False)
            for leaf, p in module.named_parameters(recurse=False, remove_duplicate=False)
        ]

    def _live_vocab(self) -> Collection[str]:
        vocab = {id(p) for m in self._vocab_parts() for p in m.parameters(recurse=False)}
        return [n for n, p in self.named_parameters(remove_duplicate=False) if id(p) in vocab]

    @classmethod
    def _look_at(cls, config: PretrainedConfig, arguments: Mapping[str, Any], ask: Callable[[Any], Answer]) -> Answer:
        return ask(cls._without_values(config, arguments))

    @classmethod
    def _call_arguments(cls) -> Collection[str]:
        return inspect.signature(cls.forward).parameters

    def _is_trainable(self, weight: Weight) -> bool:
        return self.get_parameter(weight.name).requires_grad

    @staticmethod
    def _to_numpy(tensor: Any) -> np.ndarray:
        return arrays.to_numpy(tensor)

    def _replace_part(self, path: str, value: Any) -> None:
        owner, name = self._owner(path)
        setattr(owner, name, value)

    def _cache_dtype(self) -> Any:
        return self.dtype

    @contextmanager
    def _sharing_kept(self) -> Iterator[None]:
        """Let a parameter that is replaced under one name be replaced under all that the module has for it."""
        places: dict[nn.Parameter, list[str]] = {}
        for name, parameter in self.named_parameters(remove_duplicate=False):
            places.setdefault(parameter, []).append(name)
        shared = {parameter: names for parameter, names in places.items() if len(names) > 1}
        del places  # and with it, soon, the values of the others
        yield
        for parameter, names in shared.items():
            held = [self.get_parameter(name) for name in names]
            if new := [one for one in held if one is not parameter]:
                for name in names:
                    module, leaf = self._owner(name)
                    module.register_parameter(leaf, new[0])

    def _owner(self, name: str) -> tuple[nn.Module, str]:
        scope, _, leaf = name.rpartition(".")
        return self.get_submodule(scope), leaf

    def _set(self, name: str, tensor: torch.Tensor, requires_grad: bool = True) -> None:
        module, leaf = self._owner(name)
        trainable = requires_grad and (tensor.is_floating_point() or tensor.is_complex())
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=trainable))

    @property
    def device(self) -> torch.device:
        """Device of the first parameter."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first floating parameter."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())
