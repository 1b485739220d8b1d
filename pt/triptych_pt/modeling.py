"""`PreTrainedModel`: the plans of core, carried out on a `torch.nn.Module`."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.modeling.base import ModelBase, refuse_untaken
from triptych.modeling.derived import LiveWeight, declared_ties
from triptych.modeling.hooks import Answer
from triptych.nn.parts import Model
from triptych.tensors.dtypes import is_auto, parse_param_dtype
from triptych.tensors.ref import TensorRef
from triptych.weights.packing import Packed
from triptych.weights.plan import Assignment, LoadPlan, NewWeight
from triptych.weights.schema import Schema, Weight
from triptych.weights.surgery import VOCAB, Grow
from triptych_pt import arrays, internals, layers, make, ops, packed
from triptych_pt.adapters import Adapts
from triptych_pt.authors import libraries, trainers
from triptych_pt.authors.accessors import Accessors
from triptych_pt.authors.attention import ALL_ATTENTION_FUNCTIONS
from triptych_pt.authors.losses import loss_type
from triptych_pt.authors.mixin import ModuleUtilsMixin
from triptych_pt.authors.training import Trains, by_parts
from triptych_pt.generation import Generates
from triptych_pt.internals import building_empty, parameters_on_meta
from triptych_pt.layers import describe
from triptych_pt.make import Conv1D, RMSNorm
from triptych_pt.placement.placed import Placed
from triptych_pt.seeding import SeedsDropout
from triptych_pt.serving import Exports

__all__ = ["PreTrainedModel"]
Self = TypeVar("Self", bound="PreTrainedModel")


class PreTrainedModel(
    Placed, nn.Module, Accessors, Trains, ModuleUtilsMixin, Generates, Adapts, SeedsDropout, Exports, ModelBase
):
    """Base class of PyTorch models. Subclasses build their modules in `__init__` and end it with `self.post_init()`.

    Raises:
        ArgumentError: the config is not of `config_class`. ConfigError: a field was set to an impossible value.
    """

    framework = "pt"
    class_prefix = ""
    _ops: ClassVar[Any] = ops
    _require_grads_hook: Any = None
    _device_of_values: Any = None  # while the model is loaded

    def __init_subclass__(cls, part: type[Model] | None = None, **kwargs: Any) -> None:
        """Take over the layers and the arithmetic of `part`, a declaration, if the class statement names one."""
        super().__init_subclass__(**kwargs)
        if part is not None:
            make.binder.declare(cls, part, wrap=partial(by_parts, task=getattr(part, "task", "")), ops=ops, make=make)

    def __init__(self, config: PretrainedConfig, *inputs: Any, **kwargs: Any) -> None:
        config = self._own_config(config)
        super().__init__()
        self.config = config if config._attn_implementation_autoset else self._autoset_attn_implementation(config)
        self.loss_type = loss_type(type(self))
        self.name_or_path = str(config.name_or_path or "")
        self.warnings_issued: dict[str, bool] = {}

    def post_init(self) -> None:
        """Initialise and tie the weights; a load calls it too, while no weight has a value yet."""
        self.init_weights()
        self._refuse_unknown_kept()
        self._checkpoint_as_configured()

    def init_weights(self) -> None:
        """Prune the heads that the config says, initialise every module once that no model within has initialised or
        loaded, children first, and tie the weights."""
        if self.config.pruned_heads and self._prunes_itself():
            self.base_model._prune_heads(self.config.pruned_heads)
        if not building_empty() and internals.initialising():
            self.initialize_weights()
        self.tie_weights()

    def initialize_weights(self) -> None:
        """Initialise every module, children first, that was neither initialised nor loaded yet."""
        self.apply(self._initialize_weights)

    def _initialize_weights(self, module: nn.Module) -> None:
        if not getattr(module, "_is_hf_initialized", False):
            self._init_weights(module)
            vars(module)["_is_hf_initialized"] = True

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module: normal with `config.initializer_range`, zero biases, unit norms.

        A module that is none of PyTorch's own stays as its constructor made it.
        """
        layers.initialise(module, getattr(self.config, "initializer_range", 0.02))

    # -- embeddings and ties ------------------------------------------------------------------------------------

    def tie_weights(self) -> None:
        """Make tied weights one parameter: as the schema or a dict `_tied_weights_keys` declares; or the input and the
        output embeddings of a class of another's, if its config ties them. Then call `_tie_weights` of every module.
        """
        declared = self.declared_schema
        ties = declared_ties(self, declared)
        for name, (source, _) in ties.items():
            if name.rpartition(".")[0] and packed.shares(self, name):
                continue
            try:
                (module, leaf), shared = self._owner(name), self.get_parameter(source)
            except AttributeError as cause:
                raise ArgumentError(
                    f"{type(self).__name__} cannot tie {name} to {source}.",
                    expected="names of layers and parameters of the model, in _tied_weights_keys",
                    received=str(cause),
                ) from cause
            module.register_parameter(leaf, shared)
        if declared is None:
            if not ties and getattr(self.config, "tie_word_embeddings", True):
                self._tie_embeddings()
            if getattr(self.config, "tie_encoder_decoder", False):
                self._tie_encoder_decoder()
        for module in internals.modules_of(self):
            if hasattr(type(module), "_tie_weights") or "_tie_weights" in vars(module):
                getattr(module, "_tie_weights")()  # noqa: B009  (a Tensor, by the type of torch modules)

    def _tie_embeddings(self) -> None:
        found = self._vocab_parts()
        if len(found) == 2 and found[0] is not found[1]:
            self._tie_or_clone_weights(found[1], found[0])

    def _tie_or_clone_weights(self, output_embeddings: Any, input_embeddings: Any) -> None:
        """Let `output_embeddings` compute with the matrix of `input_embeddings`; a bias gets zeros for new rows."""
        output_embeddings.weight = input_embeddings.weight
        bias, rows = getattr(output_embeddings, "bias", None), input_embeddings.weight.shape[0]
        if bias is not None and bias.shape[0] < rows:
            bias.data = nn.functional.pad(bias.data, (0, rows - bias.shape[0]))
        describe(output_embeddings)

    def _tie_encoder_decoder(self) -> None:
        """Let the decoder have the encoder's parameters, wherever both have one of the same name and shape."""
        encoder, decoder = (
            getattr(self.base_model, name, getattr(self, name, None)) for name in ("encoder", "decoder")
        )
        if encoder is None or decoder is None:
            return  # a part of such a model, with the same config
        shared = dict(encoder.named_parameters())
        for name, parameter in list(decoder.named_parameters()):
            if name in shared and shared[name].shape == parameter.shape:
                scope, _, leaf = name.rpartition(".")
                decoder.get_submodule(scope).register_parameter(leaf, shared[name])

    # -- training -----------------------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """See `Checkpointing`. Of a model with adapters, whose embeddings are frozen, their output gets a gradient too:
        reentrant checkpointing would else compute none at all."""
        super().gradient_checkpointing_enable(gradient_checkpointing_kwargs)
        if self._hf_peft_config_loaded:
            self.enable_input_require_grads()

    def enable_input_require_grads(self) -> None:
        """Let the output of the input embeddings have a gradient though they are frozen, as adapters need it."""
        self.disable_input_require_grads()
        embeddings = self.get_input_embeddings()
        self._require_grads_hook = embeddings.register_forward_hook(lambda _, inputs, out: out.requires_grad_(True))

    def disable_input_require_grads(self) -> None:
        """End what `enable_input_require_grads` began."""
        if self._require_grads_hook is not None:
            self._require_grads_hook.remove()
        self._require_grads_hook = None

    # -- hooks of ModelBase -------------------------------------------------------------------------------------

    @classmethod
    def _stem(cls) -> str:
        return internals.unwrapped_class(cls).__name__

    def _modules_inside(self) -> Iterable[nn.Module]:
        return internals.modules_of(self)

    @classmethod
    def _registered_attention(cls) -> Collection[str]:
        return ALL_ATTENTION_FUNCTIONS.valid_keys()

    def _checkpoint_function(self, options: Mapping[str, Any] | None) -> Callable[..., Any]:
        if not (options is None or isinstance(options, Mapping)):
            raise ArgumentError("What is checkpointing done with?", expected="a mapping", received=repr(options)[:80])
        known = {"preserve_rng_state", *inspect.signature(checkpoint).parameters} - {"function", "args", "kwargs"}
        if strange := [name for name in options or {} if name not in known]:
            raise ArgumentError(
                "torch.utils.checkpoint.checkpoint does not know these arguments.",
                expected=", ".join(sorted(known)),
                received=", ".join(strange),
            )
        return ops.checkpointing(options)

    @classmethod
    def _param_dtype(cls, dtype: Any, param_dtype: Any, config: PretrainedConfig) -> np.dtype | None:
        said = config.dtype if is_auto(dtype) else None
        wanted = said or dtype if param_dtype is None else param_dtype
        return parse_param_dtype(torch.get_default_dtype() if wanted is None else wanted)

    @classmethod
    def _new_parameters(cls, dtype: Any, arguments: dict[str, Any]) -> AbstractContextManager[Any]:
        wanted = None if dtype is None else parse_param_dtype(dtype)
        return internals.default_dtype(None if wanted is None else arrays.native_dtype(wanted))

    @classmethod
    @contextmanager
    def _empty(cls, config: PretrainedConfig, inputs: Sequence[Any], **options: Any) -> Iterator[Any]:
        del options["dtype"]  # of the parameters: the plan has it
        device = internals.device_of_values()
        model = cls._without_values(config, inputs, options)
        if not cls._is_its_part():
            model.tie_weights()  # for a class whose constructor did not
        model.__dict__["_made_anew"] = lambda: cls._made_with_values(copy.deepcopy(config), inputs, options)
        model._device_of_values = device
        with internals.with_values(), model._sharing_kept():
            yield model
            model.eval()
        if model._packed:
            model.tie_weights()
            packed.follow_dtype(model)
        del model.__dict__["_made_anew"], model._device_of_values
        for module in internals.modules_of(model):
            vars(module)["_is_hf_initialized"] = True
        model._settle()

    @classmethod
    def _without_values(cls, config: PretrainedConfig, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
        refuse_untaken(options, cls)
        with parameters_on_meta():
            return cls(config, *inputs, **options)

    @classmethod
    def _made_with_values(cls, config: PretrainedConfig, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
        made = cls(config, *inputs, **options)
        made.initialize_weights()  # for a class whose constructor did not
        return made

    def _own_dtypes(self, schema: Schema) -> Mapping[str, np.dtype]:
        if self._is_its_part() and self._is_of_a_part(self.config):
            return {}
        held = {weight.name: self._held(weight.name).dtype for weight in schema.stored()}
        default = torch.get_default_dtype()
        return {name: arrays.numpy_dtype(dtype) for name, dtype in held.items() if dtype != default}

    def _assign(
        self,
        assignment: Assignment,
        read: Callable[[Assignment], np.ndarray],
        done: Callable[[Assignment], None],
    ) -> None:
        self._set(assignment.weight.name, arrays.to_native(read(assignment)))
        done(assignment)

    def _has_load_hooks(self) -> bool:
        return internals.loads_its_own_way(self)

    def _load_by_hooks(
        self, plan: LoadPlan, checkpoint: Mapping[str, TensorRef], done: Callable[[Assignment], None]
    ) -> LoadPlan:
        state = {a.weight.name: arrays.to_native(a.read("pt")) for a in plan.assignments}
        state |= {name: arrays.to_native(np.array(checkpoint[name].read())) for name in plan.unexpected}
        dtype, own = plan.dtype_of_new, self._own_dtypes(plan.schema)
        waiting = {w.name: self._held(w.name) for w in plan.schema.stored() if self._held(w.name).is_meta}
        for name, old in waiting.items():
            self._set(name, internals.blank(old.shape, arrays.native_dtype(own.get(name, dtype))))
        left = self.load_state_dict(state, strict=False)
        missing = {name for name in left.missing_keys if name in plan.schema}
        for name, old in waiting.items():
            if name in missing or internals.is_blank(self._held(name)):
                missing.add(name)
                internals.put(*self._owner(name), old)
        assigned = [a for a in plan.assignments if a.weight.name not in missing]
        for assignment in assigned:
            done(assignment)
        lacking = tuple(plan.schema[name] for name in missing if plan.schema[name].tied_to is None)
        return replace(plan, assignments=tuple(assigned), missing=lacking, unexpected=tuple(left.unexpected_keys))

    def _initialise(self, new: Sequence[NewWeight]) -> None:
        owners: dict[nn.Module, dict[str, NewWeight]] = {}
        for one in new:
            owner, leaf = self._owner(one.weight.name)
            if getattr(owner, leaf).is_meta:  # a buffer has a value, and what the constructor loaded
                owners.setdefault(owner, {})[leaf] = one
        made: Any = None
        for owner, leaves in owners.items():
            kept = {n: t.detach().clone() for n, t in internals.own_tensors(owner) if n not in leaves and not t.is_meta}
            for leaf, one in leaves.items():
                internals.put(owner, leaf, internals.blank(one.weight.shape, arrays.native_dtype(one.dtype)))
            with torch.no_grad():
                internals.reset(owner)
                blank = [leaf for leaf in leaves if internals.has_blanks(getattr(owner, leaf))]
                if blank and not isinstance(owner, (make.Block, Conv1D, RMSNorm)):  # only its constructor knows
                    made = self.__dict__["_made_anew"]() if made is None else made
                    for leaf, one in leaves.items():
                        getattr(owner, leaf).copy_(made._held(one.weight.name))
                else:
                    for leaf in blank:
                        getattr(owner, leaf).zero_()
                    self._model_around(owner)._init_weights(owner)
                for name, value in kept.items():
                    getattr(owner, name).copy_(value)

    def _model_around(self, module: nn.Module) -> Any:
        """Return the innermost model that `module` is a part of."""
        models = [one for one in self.modules() if isinstance(one, PreTrainedModel)]
        return next(one for one in reversed(models) if any(part is module for part in one.modules()))

    def _tensor_refs(self, params: Any = None) -> list[TensorRef]:
        if split := [name for name, parameter in self.named_parameters() if internals.is_split(parameter)]:
            raise ArgumentError(
                "The weights are split over processes, of which none has them whole.",
                expected="state_dict=, with whole weights",
                received=f"{split[0]} and {len(split) - 1} more, as DTensor",
                remedy="in every process get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, "
                "cpu_offload=True)) of torch.distributed.checkpoint.state_dict; or torch.distributed.checkpoint.save",
            )
        refs = super()._tensor_refs(params)
        if not internals.saves_its_own_way(self):
            return refs
        return layers.refs_of_state(self.state_dict(), {ref.name: ref for ref in refs}, self.schema)

    def _reader(self, params: Any = None) -> Callable[[Weight], np.ndarray]:
        return lambda weight: arrays.to_numpy(self._value_of(*self._owner(weight.name)))

    def _dtype_reader(self, params: Any = None) -> Callable[[Weight], np.dtype]:
        return lambda weight: arrays.numpy_dtype(self._held(weight.name).dtype)

    def _replace(self, new: Mapping[str, np.ndarray]) -> None:
        for name, array in new.items():
            old, value = self._held(name), arrays.to_native(array)
            if not self._give_value(old, value):
                old.data = value.to(old.device)  # the same parameter, for an optimizer that has it
                old.grad = None
        self.tie_weights()
        for module in self.modules():
            describe(module)

    def _packable(self) -> Collection[str]:
        named = self.named_modules(remove_duplicate=False)
        return [f"{path}.weight" for path, module in named if packed.can_hold(module)]

    def _hold_packed(self, weights: Mapping[str, Packed]) -> None:
        for name, (source, one) in packed.places(self.schema, weights).items():
            path = name.removesuffix(".weight")
            shared = None if source is None else attrgetter(source.removesuffix(".weight"))(self)
            self._replace_part(path, packed.holding(attrgetter(path)(self), one, shared))

    def _hold_whole(self, weights: Mapping[str, Packed]) -> None:
        for path, module in list(self.named_modules(remove_duplicate=False)):
            if isinstance(module, packed.PackedLayer):
                self._replace_part(path, packed.whole(module))

    def _put(self, new: Mapping[str, np.ndarray]) -> None:
        tensors = (*self.parameters(), *self.buffers())
        device = next((tensor.device for tensor in tensors if not tensor.is_meta), internals.device_of_values())
        for name, array in new.items():
            internals.put(*self._owner(name), arrays.to_native(array).to(device))
        self.tie_weights()
        packed.follow_dtype(self)

    @classmethod
    def _check_library(cls, said: Mapping[str, Any]) -> None:
        libraries.check(said)

    def _quantise_by_library(self, said: Mapping[str, Any]) -> None:
        libraries.quantise(self, said)

    def _refuse_other_embeddings(self, schema: Schema) -> None:
        known = {id(self._held(weight.name)) for weight in schema.values() if weight.axis_index(VOCAB) is not None}
        for part in self._vocab_parts():
            if isinstance(part, nn.Module) and not known & {id(parameter) for parameter in part.parameters()}:
                raise ArgumentError(
                    "These embeddings cannot be resized.",
                    expected="layers with a matrix [vocabulary, width], such as nn.Embedding and nn.Linear",
                    received=type(part).__name__,
                    remedy="override resize_token_embeddings",
                )

    def _initialise_rows(self, grown: Sequence[Grow]) -> None:
        for owner in {self._owner(edit.weight)[0] for edit in grown}:
            model = self._model_around(owner)
            if type(model)._init_weights is PreTrainedModel._init_weights:
                continue
            kept = {name: tensor.detach().clone() for name, tensor in internals.own_tensors(owner)}
            with torch.no_grad():
                model._init_weights(owner)
                for edit in grown:
                    holder, leaf = self._owner(edit.weight)
                    if holder is owner:
                        old = kept[leaf].shape[edit.axis] - edit.count
                        getattr(owner, leaf).narrow(edit.axis, 0, old).copy_(kept[leaf].narrow(edit.axis, 0, old))

    def _live_weights(self) -> list[LiveWeight]:
        return layers.live_weights(self)

    def _tied_names(self) -> Iterable[str]:
        models = [("", self), *self.named_modules()]
        for path, model in models:
            keys = model._tied_weights_keys if isinstance(model, PreTrainedModel) else None
            if keys is not None and not isinstance(keys, Mapping):
                yield from (re.escape(f"{path}.") + key if path else key for key in keys)

    def _nested_models(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for path, module in self.named_modules():
            if path and isinstance(module, PreTrainedModel) and not any(path.startswith(f"{p}.") for p in found):
                found[path] = module
        return found

    def _live_vocab(self) -> Collection[str]:
        vocab = {id(p) for m in self._vocab_parts() for p in m.parameters(recurse=False)}
        return [n for n, p in self.named_parameters(remove_duplicate=False) if id(p) in vocab]

    @classmethod
    def _look_at(cls, config: PretrainedConfig, arguments: Mapping[str, Any], ask: Callable[[Any], Answer]) -> Answer:
        return ask(cls._without_values(config, (), arguments))

    @classmethod
    def _call_arguments(cls) -> Collection[str]:
        return inspect.signature(cls.forward).parameters

    def _is_trainable(self, weight: Weight) -> bool:
        return self._held(weight.name).requires_grad

    @staticmethod
    def _to_native(array: np.ndarray) -> torch.Tensor:
        return arrays.to_native(array)

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
        """Let a tensor that is replaced in one place be replaced in all that the module has for it."""
        places: dict[torch.Tensor, list[tuple[nn.Module, str]]] = {}
        for module in internals.modules_of(self):
            for leaf, tensor in internals.own_tensors(module):
                places.setdefault(tensor, []).append((module, leaf))
        shared = {tensor: found for tensor, found in places.items() if len(found) > 1}
        del places  # and with it, soon, the values of the others
        yield
        for tensor, found in shared.items():
            held = [internals.own_tensor(*place) for place in found]
            if new := [one for one in held if one is not tensor]:
                for place in found:
                    internals.share(*place, new[0])

    def _owner(self, name: str) -> tuple[nn.Module, str]:
        scope, _, leaf = name.rpartition(".")
        return attrgetter(scope)(self) if scope else self, leaf  # get_submodule takes twice as long

    def _held(self, name: str) -> Any:
        """Return the parameter or buffer `name`."""
        return internals.own_tensor(*self._owner(name))

    def _set(self, name: str, tensor: torch.Tensor) -> None:
        device = self._device_of_values if self._placement is None else self._placement.device_for(name)
        internals.put(*self._owner(name), tensor.to(device))

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        """Inputs with which the model can be called: three texts of five ids below 8."""
        return {"input_ids": torch.tensor([[7, 6, 0, 0, 1], [1, 2, 3, 0, 0], [0, 0, 0, 4, 5]])}


trainers.introduce("PreTrainedModel", PreTrainedModel,
                   ("transformers.trainer", "peft.peft_model", "peft.tuners.tuners_utils"))  # fmt: skip
trainers.introduce("Conv1D", Conv1D, ("peft.tuners.tuners_utils", "peft.tuners.lora.layer"))
