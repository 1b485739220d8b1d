"""The adapters of the three base classes: loaded, made, switched, merged and saved, as `triptych.adapters` says."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from triptych.adapters import numbers
from triptych.adapters.config import ADAPTER_CONFIG_NAME, LoraConfig
from triptych.adapters.folder import base_of, fetch_adapter, is_adapter, open_adapter, write_adapter
from triptych.adapters.held import Adapter, Adapters
from triptych.adapters.state import AdapterState, fitted, loaded_targets, named, parsed, read_as_held
from triptych.adapters.targets import Target, targets, trained_whole
from triptych.checkpoints.opening import Checkpoint
from triptych.errors import ArgumentError
from triptych.files.paths import local_folder
from triptych.hub.fetching import HubFolder, look_up, names_in, take_hub_arguments
from triptych.modeling.generating import Generating
from triptych.tensors.arrays import converted
from triptych.tensors.ref import TensorRef
from triptych.weights import surgery

DEFAULT = "default"
logger = logging.getLogger("triptych")
Factors = Mapping[str, tuple[Any, Any]]
_BATCH_BYTES = 2**28
_PLACEMENT = ("device_map", "max_memory", "offload_folder", "offload_index")


class Adapting(Generating):
    """Part of `ModelBase`: adapters, in the file format of peft.

    A layer that is adapted computes `base(x) + scale * B(A(drop(x)))` for every adapter that acts. Names of weights,
    and what a save of the model without adapters writes, stay as they are.
    """

    _adapters: Any = None
    _adapter_state_dicts: ClassVar[bool] = False
    """Whether a `state_dict` of the framework's own holds adapters too."""

    # -- hooks of the backends ----------------------------------------------------------------------------------

    def _hold_adapter(self, name: str, factors: Mapping[Target, tuple[np.ndarray, np.ndarray]], rate: float) -> None:
        """Put A and B of a new adapter to the layers that they belong to; `rate` is that of its dropout.

        Raises:
            ArgumentError: a layer is of no kind that can be adapted; nothing is changed.
        """
        raise NotImplementedError

    def _drop_adapter(self, name: str) -> None:
        """Remove an adapter from every layer."""
        raise NotImplementedError

    def _adapter_factors(self, name: str) -> Factors:
        """Return module -> A, [rank, ins], and B, [outs, rank], as the framework holds them."""
        raise NotImplementedError

    def _act_adapters(self, scales: Mapping[str, Mapping[str, float]]) -> None:
        """Let these adapters act, and no others: adapter -> module -> by what its change is multiplied."""
        raise NotImplementedError

    def _train_adapters(self, adapters: Collection[str], weights: Collection[str]) -> None:
        """Let these adapters and weights of the model be trained, and nothing else."""
        raise NotImplementedError

    def _adapter_of_state(self, adapter: Adapter, name: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Return the weights of an adapter that a `state_dict` of the framework holds, under the names of peft."""
        raise NotImplementedError

    def _refs_of_params(self, name: str, params: Any) -> dict[str, TensorRef]:
        """Return the weights of an adapter that a tree of parameters holds, under the names of peft."""
        raise NotImplementedError

    @classmethod
    def _in_memory(cls, state_dict: Mapping[str, Any], copied: bool = False) -> Checkpoint:
        """Return arrays, of numpy or of the framework, as a checkpoint; `copied` where a model will adopt them."""
        raise NotImplementedError

    # -- which there are ----------------------------------------------------------------------------------------

    @property
    def _hf_peft_config_loaded(self) -> bool:
        """Whether the model holds an adapter, under the name that it has in transformers."""
        return self._adapters_held() is not None

    @property
    def peft_config(self) -> dict[str, LoraConfig]:
        """The configs of the adapters, by their names; there is no such attribute while there are no adapters."""
        state = self._adapters_held()
        if state is None:
            raise AttributeError(f"{type(self).__name__} holds no adapters.")
        return {name: one.config for name, one in state.held.items()}

    def _adapters_held(self) -> Adapters | None:
        found: Adapters | None = vars(self).get("_adapters")
        return found

    def _some_adapters(self) -> Adapters:
        state = self._adapters_held()
        if state is None:
            raise ArgumentError("The model holds no adapter.", expected="an adapter", received="none",
                                remedy="load one by load_adapter, or make one by add_adapter")  # fmt: skip
        return state

    def active_adapters(self) -> list[str]:
        """Return the names of the adapters that are set, whether or not they are disabled.

        Raises:
            ArgumentError: there are none.
        """
        return list(self._some_adapters().active)

    def active_adapter(self) -> str:
        """Return the first of `active_adapters`."""
        return self.active_adapters()[0]

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
        name = adapter_name or DEFAULT
        self._refuse_taken(name)
        if config.init_lora_weights not in (True, False, "gaussian"):
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
        schema = self.schema
        factors = {one: tuple(map(read_as_held, given.factors[one.module])) for one in adapted}
        whole = {n: converted(np.array(ref.read()), self._dtype_of(schema[n])) for n, ref in given.whole.items()}
        self._hold_adapter(name, factors, config.lora_dropout)  # type: ignore[arg-type]
        state = self._adapters_held()
        if state is None:
            state = Adapters(frozenset(w.name for w in schema.stored() if self._is_trainable(w)))
            self.__dict__["_adapters"] = state  # not by setattr: Keras would track what is in it
        state.held[name] = Adapter(config, tuple(adapted), tuple(whole), whole, trained)
        state.active, state.enabled = (name,), True
        self._follow_adapters()

    # -- which of them act --------------------------------------------------------------------------------------

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Let this adapter act, or these together, and no others; and let it be trained, if it was added to be.

        Raises:
            ArgumentError: there is no such adapter, or two have values of their own for one weight.
        """
        state = self._some_adapters()
        names = state.known(adapter_name)
        state.refuse_merged()
        state.refuse_two_owners(names)
        state.active, state.enabled = names, True
        self._follow_adapters()

    def disable_adapters(self) -> None:
        """Let the model compute as it does without adapters; they stay there."""
        self._enable_adapters(False)

    def enable_adapters(self) -> None:
        """Let the adapters that are set act again."""
        self._enable_adapters(True)

    def _enable_adapters(self, enabled: bool) -> None:
        state = self._some_adapters()
        state.refuse_merged()
        state.enabled = enabled
        self._follow_adapters()

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Remove adapters. Without the last, the model is as it was before there was one.

        Raises:
            ArgumentError: there is no such adapter.
        """
        state = self._some_adapters()
        names = state.known(adapter_names)
        state.refuse_merged()
        kept = tuple(name for name in state.active if name not in names)
        left = [name for name in state.held if name not in names]
        state.active = kept or tuple(left[:1])
        self._follow_adapters()
        for name in names:
            self._drop_adapter(name)
            del state.held[name]
        if not state.held:
            self._forget_adapters(state)

    def _forget_adapters(self, state: Adapters) -> None:
        del self.__dict__["_adapters"]
        self._train_adapters((), state.trained_before)

    def _follow_adapters(self) -> None:
        """Let the live model be as its `Adapters` say."""
        state = self._some_adapters()
        self._exchange_whole(state)
        self._act_adapters(state.scales())
        self._train_adapters(*state.trained())

    def _exchange_whole(self, state: Adapters) -> None:
        """Give weights that adapters have whole the values of those that act, or the model's own; keep the others."""
        wanted, before = state.wanted_owners(), dict(state.owners)
        changing = [name for name in {**before, **wanted} if before.get(name) != wanted.get(name)]
        if not changing:
            return
        schema, read, new = self.schema, self._reader(), {}
        for name in changing:
            old, now = before.get(name), wanted.get(name)
            kept = state.base if old is None else state.held[old].whole
            kept[name] = np.array(read(schema[name]))
            new[name] = (state.base if now is None else state.held[now].whole).pop(name)
        self._replace(new)
        state.owners = wanted

    # -- merging ------------------------------------------------------------------------------------------------

    def merge_adapter(self, adapter_names: str | list[str] | None = None, safe_merge: bool = False) -> None:
        """Add the changes of adapters to the model's own matrices: it computes the same, as fast as without them.

        The sums are computed in float32, and equal those of `triptych merge` bit for bit.

        Args:
            adapter_names: by default those that act.
            safe_merge: refuse a change that is not finite, before any matrix is changed.

        Raises:
            ArgumentError: there is no such adapter, it is merged already, or a matrix is tied to another.
        """
        state = self._some_adapters()
        names = state.known(list(state.acting) if adapter_names is None else adapter_names)
        state.refuse_merged()
        state.refuse_two_owners(names)
        self._refuse_merge(state, names)
        if safe_merge:
            for name, array in self._merged_matrices(names, 1):
                if not np.isfinite(array.astype(np.float32, copy=False)).all():
                    raise ArgumentError(
                        "The merged matrix would not be finite.",
                        received=name,
                        remedy="look at the adapter: it holds inf or nan, or its scale is too large",
                    )
        self._put_in_batches(self._merged_matrices(names, 1))
        state.merged, state.active = names, names
        self._follow_adapters()

    def unmerge_adapter(self) -> None:
        """Take the changes of merged adapters away again; up to rounding, the matrices are as before.

        Raises:
            ArgumentError: none is merged.
        """
        state = self._some_adapters()
        if not state.merged:
            raise ArgumentError("No adapter is merged.", remedy="call merge_adapter() first")
        self._put_in_batches(self._merged_matrices(state.merged, -1))
        state.merged = ()
        self._follow_adapters()

    def merge_and_unload(self, safe_merge: bool = False, adapter_names: str | list[str] | None = None) -> Any:
        """Merge adapters, by default those that act, and drop all; return the model, which is one without adapters.

        Raises:
            As `merge_adapter`.
        """
        state = self._some_adapters()
        if not state.merged:
            self.merge_adapter(adapter_names, safe_merge)
        for name in list(state.held):
            self._drop_adapter(name)
        self._forget_adapters(state)
        return self

    def _refuse_merge(self, state: Adapters, names: Iterable[str]) -> None:
        schema = self.schema
        sources = {weight.tied_to for weight in schema.values()}
        changing = [one.weight for name in names for one in state.held[name].targets]
        if coded := [name for name in changing if schema[name].packed is not None]:
            raise ArgumentError(
                "The matrix is quantised, and its codes cannot take a change.", expected="floating numbers",
                received=", ".join(coded[:4]), remedy="load the adapter into the model as it is without quantisation",
            )  # fmt: skip
        if tied := [name for name in changing if name in sources]:
            raise ArgumentError(
                "The matrix is tied, and the other layer is not adapted.", expected="a matrix of its own",
                received=", ".join(tied), remedy="load the model with tie_word_embeddings=False",
            )  # fmt: skip

    def _merged_matrices(self, names: Iterable[str], sign: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield weight and new value of each matrix that these adapters change, one at a time."""
        state, schema, read = self._some_adapters(), self.schema, self._reader()
        changes: dict[str, list[tuple[Target, tuple[Any, Any]]]] = {}
        for name in names:
            factors = self._adapter_factors(name)
            for one in state.held[name].targets:
                changes.setdefault(one.weight, []).append((one, factors[one.module]))
        for weight, several in changes.items():
            array = np.array(read(schema[weight]))
            for one, pair in several:
                a, b = map(self._to_numpy, pair)
                array = numbers.changed(one, array, a, b, sign)
            yield weight, array

    def _put_in_batches(self, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        batch: dict[str, np.ndarray] = {}
        for name, array in arrays:
            batch[name] = array
            if sum(one.nbytes for one in batch.values()) > _BATCH_BYTES:
                self._replace(batch)
                batch = {}
        if batch:
            self._replace(batch)

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
        state, schema, read = self._some_adapters(), self.schema, self._reader()
        adapter, factors, whole = state.held[name], {}, {}
        for module, pair in self._adapter_factors(name).items():
            arrays = [self._to_numpy(one) for one in pair]
            factors[module] = tuple(TensorRef.of(f"{module}@{w}", x) for w, x in zip("AB", arrays, strict=True))
        for weight in adapter.names:
            if weight in adapter.whole:
                whole[weight] = TensorRef.of(weight, adapter.whole[weight])
            else:
                told = schema[weight]
                whole[weight] = TensorRef(weight, self._dtype_of(told), told.shape, lambda w=told: read(w))  # type: ignore[misc]
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


@dataclass
class AdapterArguments:
    """The arguments of a load that are about an adapter; and, where the path is that of one, what was found there.

    - `base`: of which model it is an adapter; None where the path holds none, or a model beside it.
    """

    name: str | None
    options: Mapping[str, Any]
    place: Any = None
    subfolder: str = ""
    base: str | None = None

    @classmethod
    def taken_from(cls, kwargs: dict[str, Any]) -> AdapterArguments:
        """Remove `adapter_name` and `adapter_kwargs` from `kwargs`, and return them.

        Raises:
            ArgumentError: one of a wrong type.
        """
        name, options = kwargs.pop("adapter_name", None), kwargs.pop("adapter_kwargs", None) or {}
        if not (name is None or isinstance(name, str)) or not isinstance(options, Mapping):
            raise ArgumentError("These are no arguments of an adapter.", expected="adapter_name, a text, and "
                                "adapter_kwargs, a mapping", received=repr((name, options))[:80])  # fmt: skip
        return cls(name, options)

    def seen(self, path: Any, subfolder: str, hub: Mapping[str, Any]) -> Any:
        """Return `path`, or what was looked up of it, and note whether it is that of an adapter.

        Raises:
            ArgumentError: it is not, and arguments of one were given; or its config does not name a model. HubError and
            its subclasses, ConfigError.
        """
        own = dict(self.options)
        below = own.pop("subfolder", subfolder)
        options = {**hub, **take_hub_arguments(own)}
        if own:
            raise ArgumentError("adapter_kwargs holds what is no argument of a look-up.", received=", ".join(own))
        found = look_up(path, below, options if self.options else hub)
        is_there = isinstance(found, (str, os.PathLike)) and os.path.isdir(found)
        names = names_in(found, below) if is_there or isinstance(found, HubFolder) else ()
        if is_adapter(names):
            self.place, self.subfolder = fetch_adapter(found, below, options), below
            self.base = base_of(self.place, below)
        elif self.options or self.name not in (None, DEFAULT):
            raise ArgumentError(
                f"{path} holds no adapter that adapter_name and adapter_kwargs could be about.",
                expected="a folder with adapter_config.json, and no weights of a model",
                received=str(path),
                remedy="load the model, and then the adapter: model.load_adapter(path, adapter_name)",
            )
        elif ADAPTER_CONFIG_NAME in names:
            logger.warning("%s holds an adapter too, which is left aside: model.load_adapter(path) loads it", path)
        return found

    def load(self, cls: Any, *inputs: Any, **arguments: Any) -> Any:
        """Return what `cls.from_pretrained` returns of the model that the adapter belongs to, with the adapter in it.

        A `revision` is that of the adapter; what its config says of the model's is followed.
        """
        arguments.pop("revision", None)
        if said := LoraConfig.read(local_folder(self.place, self.subfolder)).others.get("revision"):
            arguments["revision"] = said
        loaded = cls.from_pretrained(self.base, *inputs, **arguments)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.load_adapter(self.place, self.name, adapter_kwargs={"subfolder": self.subfolder})
        return loaded
