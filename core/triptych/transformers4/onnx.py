"""`transformers.onnx`: the descriptions that files of configs carry. Nothing is exported by them: see torch.onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from triptych.transformers4 import exports


class PatchingSpec(NamedTuple):
    """An operation that is replaced while a model is traced."""

    o: Any
    name: str
    custom_op: Callable[..., Any]
    orig_op: Callable[..., Any] | None = None
    op_wrapper: Callable[..., Any] | None = None


class OnnxConfig:
    """Which inputs a model has, and which of their axes vary: subclasses define `inputs`."""

    def __init__(self, config: Any, task: str = "default", patching_specs: list[PatchingSpec] | None = None) -> None:
        self._config, self.task = config, task
        self._patching_specs = list(patching_specs or ())

    @property
    def inputs(self) -> Mapping[str, Mapping[int, str]]:
        """Input -> axis -> name of the axis.

        Raises:
            NotImplementedError: the subclass does not define it.
        """
        raise NotImplementedError

    @classmethod
    def from_model_config(cls, config: Any, task: str = "default") -> OnnxConfig:
        """Return the description for the config of a model."""
        return cls(config, task=task)


class OnnxConfigWithPast(OnnxConfig):
    """As `OnnxConfig`; with `use_past`, of a model that gets `past_key_values`."""

    def __init__(
        self,
        config: Any,
        task: str = "default",
        patching_specs: list[PatchingSpec] | None = None,
        use_past: bool = False,
    ) -> None:
        super().__init__(config, task, patching_specs)
        self.use_past = use_past

    @classmethod
    def with_past(cls, config: Any, task: str = "default") -> OnnxConfigWithPast:
        """Return the description of a model that gets `past_key_values`."""
        return cls(config, task=task, use_past=True)


class OnnxSeq2SeqConfigWithPast(OnnxConfigWithPast):
    """As `OnnxConfigWithPast`, of an encoder and a decoder."""


exports(globals())
