"""What transformers 4's base class of PyTorch had besides, for code that reads or calls it on a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import nn

from triptych.errors import ArgumentError
from triptych.generation.options import CompileConfig
from triptych.modeling.absent import Absent
from triptych_pt import internals
from triptych_pt.authors.losses import loss_of
from triptych_pt.internals import parameters_on_meta
from triptych_pt.utilities import no_init_weights

_FUSED = "attn_implementation='sdpa' computes attention fused"
_BATCHES = "call generate with prompts of one batch, padded on the left: requests do not join one that runs"
_AS_THEY_ARE = "the layers of a model are used as they are"


class Accessors:
    """Part of `PreTrainedModel`: the loss by the class's name, modules by the names of weights, plans, compilation.

    The plans are for code that reads them: a load makes a whole model, and refuses `tp_plan` and `device_map`.
    """

    config: Any
    base_model_prefix: ClassVar[str]
    named_modules: Any
    is_parallelizable: ClassVar[bool] = False
    load_tf_weights: ClassVar[Any] = None
    """Never called: checkpoints of TensorFlow 1 are refused by name."""
    _skip_keys_device_placement: ClassVar[Any] = None
    _can_record_outputs: ClassVar[Mapping[str, Any] | None] = None
    _tp_plan: Any = None
    _pp_plan: Any = None
    _tp_size: Any = None

    # -- the loss -----------------------------------------------------------------------------------------------

    @property
    def loss_function(self) -> Callable[..., Any]:
        """What was assigned, or the loss that is in the name of the class, such as "ForCausalLM"."""
        assigned = vars(self).get("_loss_function", vars(self).get("_modules", {}).get("loss_function"))
        return loss_of(self) if assigned is None else assigned  # type: ignore[arg-type]

    @loss_function.setter
    def loss_function(self, value: Callable[..., Any]) -> None:
        vars(self)["_loss_function"] = value

    # -- stacks -------------------------------------------------------------------------------------------------

    def get_encoder(self) -> Any:
        """Return the attribute `encoder`, of the model or its backbone; else the backbone, which is all there is."""
        return _stack(self, "encoder")

    def get_decoder(self) -> Any:
        """Return the attribute `decoder`, of the model or its backbone; else the backbone, which is all there is."""
        return _stack(self, "decoder")

    def set_decoder(self, decoder: nn.Module) -> None:
        """Replace what `get_decoder` returns.

        Raises:
            ArgumentError: that is the model itself.
        """
        inner = _inside(self)
        if getattr(self, "decoder", None) is not None:
            self.decoder = decoder
        elif inner is None:
            raise ArgumentError(f"{type(self).__name__} is a decoder itself.", remedy="use the new one in its place")
        elif _stack(inner, "decoder") is inner:
            setattr(self, next(name for name in _places(self) if getattr(self, name, None) is inner), decoder)
        else:
            inner.set_decoder(decoder)

    # -- modules and weights ------------------------------------------------------------------------------------

    def get_parameter_or_buffer(self, target: str) -> torch.Tensor:
        """Return the parameter or buffer of this dotted name.

        Raises:
            AttributeError: there is neither.
        """
        scope, _, leaf = target.rpartition(".")
        owner: nn.Module = self.get_submodule(scope)  # type: ignore[attr-defined]
        if (found := dict(internals.own_tensors(owner)).get(leaf)) is not None:
            return found
        raise AttributeError(f"{type(self).__name__} has no parameter and no buffer {target!r}")

    def retrieve_modules_from_names(
        self, names: Iterable[str], add_prefix: bool = False, remove_prefix: bool = False
    ) -> list[nn.Module]:
        """Return the modules that hold the weights `names`, a ParameterList among them.

        Args:
            add_prefix: the names begin with `base_model_prefix`, which the modules of this model do not.
            remove_prefix: the other way round.
        """
        wanted = {name.rpartition(".")[0] for name in names}
        wanted |= {name.rpartition(".")[0].rpartition(".")[0] for name in names if name[-1:].isdigit()}
        prefix, found = self.base_model_prefix, []
        for name, module in self.named_modules():
            if remove_prefix:
                name = name.removeprefix(f"{prefix}.")
            elif add_prefix:
                name = f"{prefix}.{name}" if name else prefix
            if name in wanted:
                found.append(module)
        return found

    @classmethod
    def get_init_context(
        cls, is_quantized: bool = False, _is_ds_init_called: bool = False
    ) -> list[AbstractContextManager[Any]]:
        """Return the contexts in which a model is built whose weights have no values yet.

        Raises:
            ArgumentError: a quantised model, which there is not.
        """
        if is_quantized:
            raise ArgumentError("No quantised model is built.", expected="is_quantized=False", received="True")
        return [no_init_weights(), parameters_on_meta()]

    # -- what a class is able to do -----------------------------------------------------------------------------

    @classmethod
    def is_backend_compatible(cls) -> bool:
        """Return whether the class calls whatever function of attention is registered."""
        return bool(cls._supports_attention_backend)  # type: ignore[attr-defined]

    @property
    def can_record_outputs(self) -> Mapping[str, Any]:
        """The class's `_can_record_outputs`, for code of its own; what triptych records it declares."""
        return self._can_record_outputs or {}

    @property
    def tp_plan(self) -> dict[str, Any]:
        """How the model may be split over devices by tensors: of the config, the class, and models within."""
        return self._plan("tp")

    @tp_plan.setter
    def tp_plan(self, plan: Mapping[str, Any] | None) -> None:
        self._tp_plan = _checked(plan)

    @property
    def pp_plan(self) -> dict[str, Any]:
        """How the model may be split over devices by layers: of the config, the class, and models within."""
        return self._plan("pp")

    @pp_plan.setter
    def pp_plan(self, plan: Mapping[str, Any] | None) -> None:
        self._pp_plan = _checked(plan)

    def _plan(self, kind: str) -> dict[str, Any]:
        plan: dict[str, Any] = {}
        for path, module in self.named_modules():
            if not isinstance(module, Accessors):
                continue
            for said in (getattr(module.config, f"base_model_{kind}_plan", None) if _inside(module) is None else None,
                         getattr(module, f"_{kind}_plan")):  # fmt: skip
                plan |= {f"{path}.{name}" if path else name: value for name, value in (said or {}).items()}
        return plan

    @property
    def supports_tp_plan(self) -> bool:
        """Whether `tp_plan` says anything."""
        return bool(self.tp_plan)

    @property
    def supports_pp_plan(self) -> bool:
        """Whether `pp_plan` says anything."""
        return bool(self.pp_plan)

    @property
    def tp_size(self) -> int | None:
        """Over how many devices the model is split by tensors: None, as none is."""
        return self._tp_size

    # -- compilation and kernels --------------------------------------------------------------------------------

    def get_compiled_call(self, compile_config: CompileConfig | None) -> Callable[..., Any]:
        """Return the call of the model compiled by `torch.compile`, the same as long as `compile_config` is equal.

        Raises:
            ArgumentError: it is no `CompileConfig`.
        """
        if not (compile_config is None or isinstance(compile_config, CompileConfig)):
            received = type(compile_config).__name__
            raise ArgumentError("How is the model compiled?", expected="a CompileConfig, or None", received=received)
        last = vars(self).get("_compiled")
        if last is None or last[0] != compile_config:
            options = (CompileConfig() if compile_config is None else compile_config).to_dict()
            last = vars(self)["_compiled"] = (compile_config, torch.compile(self.__call__, **options))  # type: ignore[operator]
        return last[1]

    @property
    def use_kernels(self) -> bool:
        """Whether layers were replaced by kernels of the Hub: never.

        Raises:
            ArgumentError: when it is set.
        """
        return False

    @use_kernels.setter
    def use_kernels(self, value: bool) -> None:
        if value:
            raise ArgumentError("No kernels of the Hub are used.", expected="use_kernels = False", remedy=_AS_THEY_ARE)

    # -- what there is not --------------------------------------------------------------------------------------

    kernelize = Absent(_AS_THEY_ARE)
    to_bettertransformer = Absent(_FUSED)
    reverse_bettertransformer = Absent(_FUSED)
    tensor_parallel = Absent("distribute the model with the tools of PyTorch: torch.distributed.tensor")
    load_custom_generate = Absent("import the function generate of its file, and call it with the model")
    init_continuous_batching = Absent(_BATCHES)
    generate_batch = Absent(_BATCHES)


def _checked(plan: Any) -> dict[str, Any] | None:
    if not (plan is None or isinstance(plan, Mapping)):
        raise ArgumentError("This is no plan.", expected="a mapping, or None", received=type(plan).__name__)
    return None if plan is None else dict(plan)


def _places(model: Any) -> list[str]:
    return [name for name in (model.base_model_prefix, "model") if name]


def _inside(model: Any) -> Any:
    """Return the backbone within `model`, or None."""
    found = (getattr(model, name, None) for name in _places(model))
    return next((part for part in found if part is not None and part is not model), None)


def _stack(model: Any, name: str) -> Any:
    """Return the attribute `name` of a model or of its backbone; else the innermost of these."""
    part, inner = getattr(model, name, None), _inside(model)
    if part is not None or inner is None:
        return model if part is None else part
    return _stack(inner, name) if isinstance(inner, Accessors) else getattr(inner, name, inner)
