"""The adapters of the three base classes: loaded, made and saved, as `triptych.adapters` says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from triptych.adapters import numbers
from triptych.adapters.config import FRESH, LoraConfig
from triptych.adapters.folder import open_adapter, write_adapter
from triptych.adapters.held import Adapter, Adapters
from triptych.adapters.state import AdapterState, fitted, loaded_targets, named, parsed, read_as_held
from triptych.adapters.targets import Target, targets, trained_whole
from triptych.errors import ArgumentError
from triptych.hub.fetching import take_hub_arguments
from triptych.modeling.acting_adapters import DEFAULT
from triptych.modeling.merging_adapters import MergingAdapters
from triptych.tensors.arrays import converted
from triptych.tensors.ref import TensorRef
from triptych.weights import surgery

_PLACEMENT = ("device_map", "max_memory", "offload_folder", "offload_index")


class Adapting(MergingAdapters):
    """Part of `ModelBase`: adapters come and go, in the file format of peft."""

    # -- new ones -----------------------------------------------------------------------------------------------

    def load_adapter(
        self,
        peft_model_id: str | os.PathLike[str] | None = None,
        adapter_name: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        device_map: Any = "auto",
        max_memory: Any = None,
        offload_folder: Any = None,
        offload_index: Any = None,
        peft_config: Any = None,
        adapter_state_dict: Mapping[str, Any] | None = None,
        low_cpu_mem_usage: bool = False,
        is_trainable: bool = False,
        adapter_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Load an adapter that peft or triptych saved, in whichever framework, and let it alone act.

        Args:
            peft_model_id: a folder, or a repository of the Hub, with adapter_config.json and adapter_model.safetensors
                or adapter_model.bin, which is read without running anything.
            adapter_name: by default "default".
            revision, token: as in `from_pretrained`.
            device_map, max_memory, offload_folder, offload_index: accepted as they are by default: an adapter goes
                where its layers are.
            peft_config: used instead of adapter_config.json: see `LoraConfig.of`; needed with `adapter_state_dict`.
            adapter_state_dict: names as in the file, with or without "base_model.model.", to arrays; used instead.
            low_cpu_mem_usage: accepted; nothing is ever initialised that is loaded then.
            is_trainable: let the adapter be trained. The model's own weights are not, while it holds adapters.
            adapter_kwargs: further arguments of the look-up, of `triptych.hub.snapshot.HubOptions`, and `subfolder`.

        Raises:
            ArgumentError, ConfigError, MissingFileError, HubError, CheckpointError and its subclasses,
            CorruptCheckpointError, UnsupportedFormatError; the model is unchanged.
        """
        for name, value in zip(_PLACEMENT, (device_map, max_memory, offload_folder, offload_index), strict=True):
            if value not in (None, "auto"):
                raise ArgumentError(f"{name} says nothing of an adapter, which goes where its layers are.",
                                    expected="None", received=repr(value)[:80])  # fmt: skip
        hub = dict(adapter_kwargs or {})
        subfolder = hub.pop("subfolder", "")
        given = {**take_hub_arguments(hub), **{k: v for k, v in (("revision", revision), ("token", token)) if v}}
        if hub:
            raise ArgumentError("adapter_kwargs holds what is no argument of a look-up.", received=", ".join(hub))
        config = None if peft_config is None else LoraConfig.of(peft_config)
        if adapter_state_dict is not None:
            if config is None or peft_model_id is not None:
                raise ArgumentError("adapter_state_dict stands for the files.",
                                    expected="peft_config=, and no peft_model_id")  # fmt: skip
            tensors: Mapping[str, TensorRef] = self._in_memory(adapter_state_dict, copied=True)
            source = "adapter_state_dict"
        elif peft_model_id is None:
            raise ArgumentError(
                "No adapter is named.", expected="peft_model_id, or adapter_state_dict", received="none"
            )
        else:
            said, tensors = open_adapter(peft_model_id, subfolder, given)
            config, source = said if config is None else config, str(peft_model_id)
        self._refuse_taken(adapter_name or DEFAULT)
        schema = self.schema
        state = fitted(parsed(tensors, source), schema, self.base_model_prefix, source)
        adapted = loaded_targets(state, config, schema, source)
        self._add_given(adapter_name or DEFAULT, config, adapted, state, is_trainable)

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None, *, seed: int = 0) -> None:
        """Add a new adapter, to be trained, and let it alone act. As it starts it changes nothing.

        Args:
            adapter_config: a `triptych.adapters.config.LoraConfig`, a `peft.LoraConfig`, or a mapping like
                adapter_config.json.
            adapter_name: by default "default".
            seed: the same seed gives the same first values in all three frameworks.

        Raises:
            ArgumentError, ConfigError, UnsupportedFormatError: the model is unchanged.
        """
        config, schema = LoraConfig.of(adapter_config), self.schema
        if type(seed) is not int or seed < 0:
            raise ArgumentError("This is no seed.", expected="a whole number from 0", received=repr(seed)[:80])
        name = adapter_name or DEFAULT
        self._refuse_taken(name)
        if config.init_lora_weights not in FRESH:
            raise ArgumentError("A new adapter does not start so.", expected="True, 'gaussian' or False",
                                received=f"init_lora_weights={config.init_lora_weights!r}")  # fmt: skip
        if config.base_model_name_or_path is None and self.config.name_or_path:
            config = replace(config, base_model_name_or_path=str(self.config.name_or_path))
        adapted = targets(config, schema, str(self.config.model_type))
        if config.target_modules is None or isinstance(config.target_modules, str):
            config = replace(config, target_modules=tuple(one.module for one in adapted))
        factors = {}
        for one in adapted:
            pair = numbers.first_values(one, config.init_lora_weights, seed)
            factors[one.module] = tuple(TensorRef.of(f"{one.module}.{n}", x) for n, x in zip("AB", pair, strict=True))
        read = self._reader()
        whole = {
            name: TensorRef.of(name, np.array(read(schema[name]))) for name in trained_whole(config, schema, adapted)
        }
        self._add_given(name, config, adapted, AdapterState(factors, whole), trained=True)  # type: ignore[arg-type]

    def _refuse_taken(self, name: object) -> None:
        if not isinstance(name, str) or "." in name:
            raise ArgumentError("This is no name of an adapter.", expected="a text without a dot", received=repr(name))
        state = self._adapters_held()
        if state is not None:
            state.refuse_merged()
            if name in state.held:
                raise ArgumentError(f"There is an adapter {name!r} already.", expected="a name that is free",
                                    received=name, remedy="delete_adapter it, or choose another name")  # fmt: skip

    def _add_given(
        self, name: str, config: LoraConfig, adapted: Sequence[Target], given: AdapterState, trained: bool
    ) -> None:
        schema, dtype_of = self.schema, self._dtype_reader()
        factors = {one: tuple(map(read_as_held, given.factors[one.module])) for one in adapted}
        whole = {n: converted(np.array(ref.read()), dtype_of(schema[n])) for n, ref in given.whole.items()}
        self._hold_adapter(name, factors, config.lora_dropout)  # type: ignore[arg-type]
        state = self._adapters_held()
        if state is None:
            state = Adapters(frozenset(w.name for w in schema.stored() if self._is_trainable(w)))
            self.__dict__["_adapters"] = state  # not by setattr: Keras would track what is in it
        state.held[name] = Adapter(config, tuple(adapted), tuple(whole), whole, trained)
        state.active, state.enabled = (name,), True
        self._follow_adapters()

    # -- files --------------------------------------------------------------------------------------------------

    def get_adapter_state_dict(self, adapter_name: str | None = None, state_dict: Any = None) -> dict[str, Any]:
        """Return the weights of an adapter, by default the first active one: names as in peft's files, without
        "base_model.model.", to tensors of the framework.

        Args:
            state_dict: PyTorch only: what `model.state_dict()` returned, whose values are taken.

        Raises:
            ArgumentError: there is no such adapter.
        """
        state = self._some_adapters()
        (name,) = state.known(self.active_adapter() if adapter_name is None else adapter_name)
        if state_dict is not None and not self._adapter_state_dicts:
            raise ArgumentError("state_dict is of PyTorch's classes only.", expected="None",
                                received=type(state_dict).__name__)  # fmt: skip
        if state_dict is not None:
            return self._adapter_of_state(state.held[name], name, state_dict)
        tensors = self._adapter_factors(name)
        refs = self._adapter_refs(name)
        made = {}
        for key, ref in refs.items():
            module, _, which = ref.name.rpartition("@")
            made[key] = tensors[module]["AB".index(which)] if module else self._to_native(np.array(ref.read()))
        return made

    def _adapter_refs(self, name: str) -> dict[str, TensorRef]:
        """Return the weights of an adapter under the names of peft's files; a factor's own name is `module@A`."""
        state, schema, read, dtype_of = self._some_adapters(), self.schema, self._reader(), self._dtype_reader()
        adapter, factors, whole = state.held[name], {}, {}
        for module, pair in self._adapter_factors(name).items():
            arrays = [self._to_numpy(one) for one in pair]
            factors[module] = tuple(TensorRef.of(f"{module}@{w}", x) for w, x in zip("AB", arrays, strict=True))
        for weight in adapter.names:
            if weight in adapter.whole:
                whole[weight] = TensorRef.of(weight, adapter.whole[weight])
            else:
                told = schema[weight]
                whole[weight] = TensorRef(weight, dtype_of(told), told.shape, lambda w=told: read(w))  # type: ignore[misc]
        return named(adapter.targets, factors, whole)  # type: ignore[arg-type]

    def _save_adapter(
        self, folder: Any, safe: bool, state_dict: Mapping[str, Any] | None, prefix: str, params: Any
    ) -> list[Path]:
        """Write the active adapter alone, as `save_pretrained` does while there are adapters; each name has `prefix`.

        Raises:
            ArgumentError: several are active, and a folder holds one.
        """
        state = self._some_adapters()
        if len(state.active) != 1:
            raise ArgumentError(
                "A folder holds one adapter.", expected="one active adapter", received=", ".join(state.active),
                remedy="call set_adapter(name) for each, and save it into a folder of its own",
            )  # fmt: skip
        name = state.active[0]
        config = state.held[name].config
        others = {**config.others, "inference_mode": True}
        if params is not None:
            refs = self._refs_of_params(name, params)
        elif state_dict is None:
            refs = self._adapter_refs(name)
        else:
            refs = dict(self._in_memory(self.get_adapter_state_dict(name, state_dict)))
        return write_adapter(folder, replace(config, others=others), refs, safe, prefix)

    # -- what changes with adapters -----------------------------------------------------------------------------

    def _refuse_inner_adapters(self) -> None:
        """Raise `ArgumentError` if a model within this one holds adapters: a save of this one has no place for them."""
        if inner := [path for path, model in self._nested_models().items() if model._hf_peft_config_loaded]:
            raise ArgumentError(
                "A model within this one holds adapters, which its save would leave out.",
                expected="adapters of the whole model",
                received=", ".join(inner),
                remedy="save that model by itself, call its merge_and_unload(), or add the adapter to the whole model",
            )

    def _refuse_adapted(self, done: str) -> None:
        if self._hf_peft_config_loaded:
            raise ArgumentError(
                f"A model that holds adapters cannot be {done}: its layers would be others.",
                expected="a model without adapters",
                received=", ".join(self._some_adapters().held),
                remedy="save them, delete_adapter(...), and load them again afterwards",
            )

    def _operate(self, plan: surgery.Surgery) -> None:
        state = self._adapters_held()
        touched = set() if state is None else state.touched() & {edit.weight for edit in plan.edits}
        if touched:
            raise ArgumentError(
                "The shape of these weights cannot change while adapters belong to them.",
                expected="weights without adapters",
                received=", ".join(sorted(touched)[:4]),
                remedy="call merge_and_unload() or delete_adapter(...) first",
            )
        super()._operate(plan)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """As without adapters, whose own parameters count too."""
        own = super().num_parameters(only_trainable, exclude_embeddings)
        state = self._adapters_held()
        if state is None:
            return own
        names = state.trained()[0] if only_trainable else list(state.held)
        every = [one for name in names for one in state.held[name].targets]
        return own + sum(
            one.rank * (one.ins + one.outs) for one in every if not (exclude_embeddings and one.is_embedding)
        )
