"""Gradient checkpointing: which modules compute their layers anew for the gradient (Chen et al., 2016).

The module that runs a stack of layers has an attribute `gradient_checkpointing`, and once that was set a function
`_gradient_checkpointing_func(layer, *inputs)`, which it calls in place of the layer while it is trained. Those of
built-in models do so in `triptych.nn.stack.caller`. Names and calls are those of transformers 4, for classes that were
written for it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from triptych.errors import ArgumentError
from triptych.modeling.hooks import Hooks

logger = logging.getLogger("triptych")


class Checkpointing(Hooks):
    """Part of `ModelBase`: turning gradient checkpointing on and off."""

    config: Any
    supports_gradient_checkpointing: ClassVar[bool] = False
    """Whether the class, or a module of it, heeds `gradient_checkpointing`."""

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """Keep only what goes in and out of each layer while training, and compute the rest anew for the gradient.

        Args:
            gradient_checkpointing_kwargs: PyTorch: arguments of `torch.utils.checkpoint.checkpoint`;
                `{"use_reentrant": True}` by default, as in transformers 4. The other frameworks take none.

        Raises:
            ArgumentError: the class does not support it, no module of the model has the attribute, or the framework
                does not know these arguments.
        """
        self._refuse_no_checkpointing()
        if not isinstance(gradient_checkpointing_kwargs or {}, Mapping):
            raise ArgumentError("gradient_checkpointing_kwargs is no dict.", expected="names of arguments to values",
                                received=repr(gradient_checkpointing_kwargs)[:80])  # fmt: skip
        function = self._checkpoint_function(gradient_checkpointing_kwargs)
        if self._sets_each_module():
            if gradient_checkpointing_kwargs:
                logger.warning(
                    "%s sets gradient checkpointing by itself, without these arguments: %s",
                    type(self).__name__, dict(gradient_checkpointing_kwargs),
                )  # fmt: skip
            self._set_each_module(True)
        else:
            self._set_gradient_checkpointing(enable=True, gradient_checkpointing_func=function)

    def gradient_checkpointing_disable(self) -> None:
        """Keep what the layers compute for the gradient; of a class without gradient checkpointing nothing is asked."""
        if not type(self).supports_gradient_checkpointing:
            return
        if self._sets_each_module():
            self._set_each_module(False)
        else:
            self._set_gradient_checkpointing(enable=False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether a module of the model computes its layers anew for the gradient."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self._modules_inside())

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] | None = None
    ) -> None:
        """Set the attributes of every module that has `gradient_checkpointing`.

        A class may override it, with these arguments, or as older classes did with (module, value): that override is
        called for each module.

        Raises:
            ArgumentError: no module has the attribute.
        """
        function = gradient_checkpointing_func or self._checkpoint_function(None)
        heeding = [module for module in self._modules_inside() if hasattr(module, "gradient_checkpointing")]
        if not heeding:
            raise ArgumentError(
                f"{type(self).__name__} cannot compute its layers anew for the gradient.",
                expected="a module with the attribute gradient_checkpointing, which it heeds where it runs its layers",
                received="none",
                remedy="set self.gradient_checkpointing = False in the constructor of that module",
            )
        for module in heeding:
            module._gradient_checkpointing_func = function
            module.gradient_checkpointing = enable

    def _sets_each_module(self) -> bool:
        return "value" in inspect.signature(self._set_gradient_checkpointing).parameters

    def _set_each_module(self, value: bool) -> None:
        setter: Callable[..., None] = self._set_gradient_checkpointing
        for module in self._modules_inside():
            setter(module, value=value)

    def _refuse_no_checkpointing(self) -> None:
        if not self.supports_gradient_checkpointing:
            raise ArgumentError(
                f"{type(self).__name__} does not support gradient checkpointing.",
                expected="a class that says supports_gradient_checkpointing = True",
                received="False",
            )

    def _checkpoint_as_configured(self) -> None:
        """Heed the old field `gradient_checkpointing` of a config, which is taken out of it, as transformers 4 does."""
        if self.supports_gradient_checkpointing and getattr(self.config, "gradient_checkpointing", False):
            self.gradient_checkpointing_enable()
            del self.config.gradient_checkpointing
