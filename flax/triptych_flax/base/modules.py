"""The module of a model, of linen or of nnx: made, called, and given to those who train it in nnx's own way."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from flax import linen as nn

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych_flax import layers
from triptych_flax.base.operations import Operations


class Modules(Operations):
    """Part of `FlaxPreTrainedModel`: the module, which holds no parameters."""

    module_class: ClassVar[Any] = None
    _module: Any

    @property
    def module(self) -> Any:
        """The linen module, or of a class of nnx an `nnx_modules.Functional`; neither has parameters of its own."""
        return self._module

    @module.setter
    def module(self, module: Any) -> None:
        if layers.is_nnx(type(module)):
            from triptych_flax.authors.nnx_modules import Functional

            module = Functional.of(module, self.dtype)
        if not (isinstance(module, nn.Module) or hasattr(type(module), "in_mode")):
            raise ArgumentError(
                "The module is none.", expected="a module of linen or nnx", received=type(module).__name__
            )
        self._module = module

    def as_nnx(self, params: Any = None, rngs: Mapping[str, Any] | None = None) -> Any:
        """Return a module of nnx that holds parameters, the model's own or `params`, to be trained by `nnx.Optimizer`.

        Of a linen module it is an `nnx.bridge.ToNNX`. What was trained is taken back by `model.params = module`, or
        saved by `save_pretrained(folder, params=module)`.

        Args:
            rngs: name of a stream of random numbers, as "dropout" -> key. A linen module of ours drops values in every
                call where there are random numbers; one of nnx in those after `module.train()`.

        Raises:
            ArgumentError: the model holds adapters or packed weights, the parameters do not fit, or `rngs` is no dict.
        """
        from triptych_flax.authors.nnx_modules import as_nnx

        if not (rngs is None or isinstance(rngs, Mapping)):
            raise ArgumentError("rngs are none.", expected='a dict such as {"dropout": key}', received=repr(rngs)[:80])
        self._refuse_adapted("a module of nnx")
        self._refuse_packed("made a module of nnx")
        return as_nnx(self._module, layers.collections(self.params if params is None else params), rngs or {})

    def _new_module(self, config: PretrainedConfig, fields: Mapping[str, Any]) -> Any:
        """Return a module of `module_class`."""
        if layers.is_nnx(self.module_class):
            from triptych_flax.authors.nnx_modules import Functional

            return Functional(self.module_class, config, self.dtype, fields, self.seed)
        return self.module_class(config=config, dtype=self.dtype, **fields)

    def _in_mode(self, train: bool) -> Any:
        """Return the module as it is called: one of nnx has the mode, for linen's it is an argument."""
        functional = self._functional
        return self._module if functional is None else functional.in_mode(train)

    @classmethod
    def _known_fields(cls) -> Collection[str]:
        """Return the names of further arguments of `module_class`."""
        if cls.module_class is None:
            raise ArgumentError(
                f"{cls.__name__} has no module.",
                expected="module_class, of linen or nnx; or a module as the second argument of the constructor",
                received="neither",
            )
        if layers.is_nnx(cls.module_class):
            from triptych_flax.authors.nnx_modules import fields_of

            return fields_of(cls.module_class)
        return cls.module_class.__dataclass_fields__  # type: ignore[no-any-return]

    @classmethod
    def _call_arguments(cls) -> Collection[str]:
        called = cls if cls.module_class is None else cls.module_class
        return inspect.signature(called.__call__).parameters

    def _modules_inside(self) -> Iterable[Any]:
        return [self.module]
