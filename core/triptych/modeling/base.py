"""What the three base classes share: every decision of loading, saving, resizing and pruning.

A backend's base class inherits `ModelBase` and supplies the hooks of `triptych.modeling.hooks`.
"""

from __future__ import annotations

import copy
import inspect
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

import numpy as np

from triptych.checkpoints.holding import HeldModel, held_gguf, load_held
from triptych.checkpoints.naming import canonical
from triptych.checkpoints.opening import Checkpoint
from triptych.checkpoints.verifying import Wanted, read_beside, refuse_adapter, refuse_gguf
from triptych.checkpoints.verifying import wanted as wanted_of
from triptych.config import PretrainedConfig, taken_over
from triptych.errors import ArgumentError, CheckpointError, ConfigError, UnsupportedFormatError
from triptych.formats.kinds import read_order
from triptych.hub.fetching import fetch_config, fetch_model, names_in, take_hub_arguments
from triptych.hub.remote_code import take_code_arguments
from triptych.modeling import quantised
from triptych.modeling.adapter_arguments import AdapterArguments
from triptych.modeling.arguments import take_accepted, warn_of_msgpack
from triptych.modeling.checkpointing import Checkpointing
from triptych.modeling.derived import refuse_disagreement
from triptych.modeling.implementations import ATTENTION_ARGUMENTS, Implementations
from triptych.modeling.key_names import renamed, stated
from triptych.modeling.packing import Quantising, gguf_of, take_quantisation
from triptych.modeling.precision import Precision
from triptych.modeling.saving import Saving
from triptych.modeling.seeding import Seeding
from triptych.modeling.serving import Serving
from triptych.names import AUTO_TASKS
from triptych.tensors.dtypes import FLOATING, is_auto
from triptych.weights.plan import (
    LoadPlan,
    LoadReport,
    Policy,
    differing_ties,
    is_suspicious,
    plan_load,
    refuse_kept_ties,
    refuse_lost_heads,
    refuse_missing,
    sources,
)
from triptych.weights.reading_ahead import ReadAhead, collector_paused
from triptych.weights.schema import Schema

logger = logging.getLogger("triptych")
Self = TypeVar("Self", bound="ModelBase")


_QUANTISATION = "quantization_config of the call"
"""Under which name, that no other argument has, it is passed on."""


class _TiesEnded(Exception):
    """The config ties these weights no more, so the model is to be built again."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.names = names


class ModelBase(Checkpointing, Implementations, Precision, Seeding, Saving, Serving):
    """Base of `PreTrainedModel`, `TFPreTrainedModel` and `FlaxPreTrainedModel`.

    Subclasses set `config_class` and `base_model_prefix`. Ties and ignore lists mean what they mean in transformers:
    `_tied_weights_keys` is a list of names, or a dict from name to the weight it shares; the two
    `_keys_to_ignore_on_load_*` are lists of regular expressions; `_keys_to_ignore_on_save` is a list of names.
    """

    main_input_name: ClassVar[str] = "input_ids"
    model_tags: ClassVar[list[str] | None] = None
    _tied_weights_keys: ClassVar[Sequence[str] | Mapping[str, str] | None] = None
    _keys_to_ignore_on_load_missing: ClassVar[Sequence[str] | None] = None
    _keys_to_ignore_on_load_unexpected: ClassVar[Sequence[str] | None] = None
    _checkpoint_conversion_mapping: ClassVar[Mapping[str, str] | None] = None
    _no_split_modules: ClassVar[Sequence[str] | None] = None
    _auto_class: ClassVar[str | None] = None

    load_report: LoadReport | None = None

    # -- load ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_config(
        cls: type[Self], config: PretrainedConfig, *, dtype: Any = None, torch_dtype: Any = None, **kwargs: Any
    ) -> Self:
        """Return a new model with freshly initialised weights.

        `dtype`, or its older name `torch_dtype`, is what the framework calls dtype, "auto" for `config.dtype`;
        `attn_implementation` is as in `from_pretrained`.

        Raises:
            ArgumentError: `config` is not of `config_class`, or the dtype no floating type. ConfigError: a field of it
            was set to an impossible value, or the constructor takes no such argument.
        """
        config = copy.deepcopy(cls._own_config(config))
        cls._ask_for_attention(config, kwargs)
        wanted = torch_dtype if dtype is None else dtype
        wanted = config.dtype if is_auto(wanted) else wanted
        with cls._new_parameters(wanted, kwargs):
            refuse_untaken(kwargs, cls)
            return cls(config, **kwargs)  # type: ignore[call-arg]

    @classmethod
    def _from_config(cls: type[Self], config: PretrainedConfig, **kwargs: Any) -> Self:
        """Call `from_config`, under the name that it has in transformers 4."""
        return cls.from_config(config, **kwargs)

    @classmethod
    def from_pretrained(
        cls: type[Self],
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *model_args: Any,
        config: PretrainedConfig | str | os.PathLike[str] | None = None,
        ignore_mismatched_sizes: bool = False,
        strict: bool | None = None,
        output_loading_info: bool = False,
        dtype: Any = None,
        param_dtype: Any = None,
        variant: str | None = None,
        subfolder: str = "",
        use_safetensors: bool | None = None,
        from_pt: bool = False,
        from_tf: bool = False,
        from_flax: bool = False,
        mmap: bool = True,
        state_dict: Mapping[str, Any] | None = None,
        verify: bool = False,
        digest: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model from a local folder or from the Hub. Nothing that the checkpoint holds is initialised first.

        Args:
            pretrained_model_name_or_path: a folder with config.json and weights, of any framework and format, or the
                name of a repository that holds them, such as "org/name" (a folder of that name goes first), or a file
                of weights or an index, its config beside it or in `config`; None with `state_dict`. If there are
                several, safetensors go before the framework's own format.
            config: used instead of the folder's config.json (it is copied); an object, or a path.
            ignore_mismatched_sizes: initialise weights whose shape differs instead of refusing.
            strict: None refuses damage (a missing backbone weight, another shape) and initialises a missing head;
                True refuses a missing head and unexpected weights too; False refuses nothing.
            output_loading_info: return `(model, info)`, `info` with the keys missing_keys, unexpected_keys,
                mismatched_keys (name, shape in the checkpoint, shape in the model) and error_msgs.
            dtype: what the framework calls dtype, by name or as a type: PyTorch, the parameters; Keras, the policy;
                Flax, the computation. "auto" is `config.dtype`, else the files'; in Keras and Flax the parameters
                follow the files then. `torch_dtype` is its older name.
            param_dtype: dtype of the parameters: a floating type (None: float32) or "auto" to follow the files.
            variant: load `model.<variant>.safetensors`, `pytorch_model.<variant>.bin`, ...
            subfolder: folder below the path.
            use_safetensors: True refuses other formats, False leaves safetensors aside.
            from_pt, from_tf, from_flax: take `pytorch_model.bin`, `tf_model.h5` or `flax_model.msgpack` even if there
                are safetensors. Not needed where these are the only weights.
            mmap: map the files (default); False reads them into owned memory, for network file systems.
            state_dict: canonical names to arrays, used instead of files; needs `config`.
            verify: compare what is loaded with the manifest that `save_pretrained(manifest=True)` wrote: config.json,
                generation_config.json, the index and trusted code as they are parsed, each tensor by its SHA-256 when
                it is read. Files are read into owned memory then, whatever `mmap` says.
            digest: "sha256:" and 64 hexadecimal digits, that of the manifest, as `triptych verify` prints it: refuse
                any other save, and verify this one.
            kwargs: `quantization_config`, how weights are packed that are stored in floating numbers
                (`triptych.modeling.quantization_configs`, or a dict); `gguf_file`, the name of a GGUF file in the
                folder or repository, which the path may name too: dequantised, or with `GGUFQuantizationConfig`
                kept as it is packed;
                `adapter_name` ("default") and `adapter_kwargs` (arguments of the look-up): of a folder that holds
                an adapter alone, the model that its config names is loaded, and the adapter into it;
                `attn_implementation`, "eager" or another that the class has (see `Implementations`);
                `device_map`, `max_memory`, `offload_folder` and `offload_buffers`, in PyTorch: on which devices the
                weights go (see `dispatch` of PyTorch's models);
                `generation_config`, used instead of the folder's generation_config.json; `key_mapping`, regular
                expression -> replacement, renames what the checkpoint holds: the first that is found in a name, as
                `re.sub` does; `device_map` and what belongs to it, in Flax `device`, `sharding` and `mesh` (see
                `Placed` in the backend's `placement/placed.py`); `revision`, `token`, `cache_dir`, `force_download`
                and `local_files_only`, for a repository (see `triptych.hub.snapshot.HubOptions`); arguments of
                transformers 4 that have no effect here (`triptych.modeling.arguments.ACCEPTED`); fields of the config
                to override; what is left goes to the constructor.

        Raises:
            ArgumentError, ConfigError, MissingFileError, HubError, CheckpointError, CorruptCheckpointError and their
            subclasses, UnsafeCheckpointError, UnsupportedFormatError. With `verify` or `digest`: MissingFileError,
            there is no manifest; IntegrityError, something differs.
        """
        path: Any = pretrained_model_name_or_path
        asked = wanted_of(verify, digest)
        hub = take_hub_arguments(kwargs)
        adapter = AdapterArguments.taken_from(kwargs)
        if state_dict is None and not isinstance(path, HeldModel):
            path = adapter.seen(path, subfolder, hub)
        if adapter.base is not None:
            refuse_adapter(path, asked)
            given = {"config": config, "ignore_mismatched_sizes": ignore_mismatched_sizes, "strict": strict,
                     "output_loading_info": output_loading_info, "dtype": dtype, "param_dtype": param_dtype,
                     "variant": variant, "use_safetensors": use_safetensors, "from_pt": from_pt, "from_tf": from_tf,
                     "from_flax": from_flax, "mmap": mmap}  # fmt: skip
            return adapter.load(cls, *model_args, **given, **kwargs, **hub)
        named, inputs = cls._by_name(model_args)
        dtype = named.pop("dtype", dtype)
        kwargs |= named
        torch_dtype = kwargs.pop("torch_dtype", None)
        dtype = torch_dtype if dtype is None else dtype
        order = read_order(cls.framework, use_safetensors, from_pt, from_tf, from_flax)
        placement = cls._take_placement(kwargs)
        wanted = take_quantisation(kwargs, cls)
        path, subfolder = cls._gguf(path, kwargs, subfolder, hub, asked)
        take_accepted(kwargs, cls)
        take_code_arguments(kwargs)  # of the auto classes: this class is asked by its name
        config = taken_over(config, cls.config_class)
        if config is not None and not isinstance(config, PretrainedConfig):
            config = fetch_config(config, subfolder, hub)
        policy = Policy(
            strict,
            ignore_mismatched_sizes,
            stated(cls, "_keys_to_ignore_on_load_missing", patterns=True),
            stated(cls, "_keys_to_ignore_on_load_unexpected", patterns=True),
            kwargs.pop("key_mapping", None),
            *cls._kept_wide(),
        )
        if wanted is not None:
            kwargs[_QUANTISATION] = wanted
        if state_dict is not None:
            if path is not None or config is None:
                raise ArgumentError("state_dict= stands for the files.", expected="path None, and config=")
            if asked is not None:
                raise ArgumentError("state_dict= has no manifest.", received=asked.argument)
            arrays = cls._in_memory(state_dict, copied=True)
            model = cls._loaded(None, arrays, config, subfolder, policy, dtype, param_dtype, inputs, kwargs, placement)
        else:
            if not isinstance(path, HeldModel):
                beside = cls._beside() if asked is None else read_beside(variant)
                path = fetch_model(path, subfolder, hub, variant, order, beside)
            model = load_held(
                path,
                lambda held: cls._loaded(
                    held, held.checkpoint, config, subfolder, policy, dtype, param_dtype, inputs, kwargs, placement
                ),
                subfolder=subfolder, variant=variant, mmap=mmap, order=order, wanted=asked,
            )  # fmt: skip
            place = path.place if isinstance(path, HeldModel) else path
            warn_of_msgpack(cls, names_in(place, subfolder), variant, order)
        if model.load_report is not None:
            of_this_class = cls._stem() in (model.config.architectures or ())
            model.load_report.log(logger, str(path), cls.__name__, of_this_class)
        return model._handed_over(output_loading_info)

    @classmethod
    def _gguf(
        cls, path: Any, kwargs: dict[str, Any], subfolder: str, hub: Mapping[str, Any], asked: Wanted | None
    ) -> tuple[Any, str]:
        """Return the model in the GGUF file that `path`, or `gguf_file` in it, names; else `path` and `subfolder`."""
        given = None if "gguf_file" in cls._constructor_arguments() else kwargs.pop("gguf_file", None)
        file = gguf_of(path, given, subfolder, hub)
        if file is None:
            return path, subfolder
        refuse_gguf(file, asked)
        return held_gguf(file), ""

    @classmethod
    def _loaded(
        cls: type[Self],
        path: Any,
        checkpoint: Checkpoint,
        config: Any,
        subfolder: str,
        policy: Policy,
        dtype: Any,
        param_dtype: Any,
        inputs: Sequence[Any],
        arguments: Mapping[str, Any],
        placement: Any = None,
    ) -> Self:
        """Return the model that `checkpoint` holds; `path` is where its config is, unless `config` is given.

        `placement` is what `_take_placement` returned.
        """
        arguments = dict(arguments)
        wanted = arguments.pop(_QUANTISATION, None)
        generation_config = arguments.pop("generation_config", None)
        attention = {name: arguments.pop(name) for name in ATTENTION_ARGUMENTS if name in arguments}
        loaded, kwargs = cls._load_config(path, config, subfolder, arguments)
        cls._check_config(loaded)
        how = cls._quantising(loaded, wanted)
        cls._ask_for_attention(loaded, attention)
        options = {"dtype": _followed(loaded, checkpoint) if is_auto(dtype) else dtype, **kwargs}
        build = partial(cls._built, loaded, inputs, options, checkpoint,
                        cls._param_dtype(dtype, param_dtype, loaded), placement, policy, str(path), how)  # fmt: skip
        with collector_paused():
            schema = cls._declared_for(loaded, kwargs)
            untied = [] if schema is None else cls._end_ties(loaded, schema, cls._named(checkpoint, schema, policy))
            try:
                model = build(cls._declared_for(loaded, kwargs) if untied else schema, untied)
            except _TiesEnded as ended:
                model = build(None, ended.names)
        if how is not None:
            if how.packing is None:
                model._quantise_by_library(how.said)
            model.config.quantization_config = quantised.plain(how.said)
        model._take_generation_config(path, generation_config)
        return model

    @classmethod
    def _built(
        cls: type[Self],
        config: PretrainedConfig,
        inputs: Sequence[Any],
        options: Mapping[str, Any],
        checkpoint: Checkpoint,
        param_dtype: np.dtype | None,
        placement: Any,
        policy: Policy,
        source: str,
        how: Quantising | None,
        schema: Schema | None,
        untied: list[str],
    ) -> Self:
        """Return the model, made of these arguments of the constructor; without `schema` its module is asked.

        Raises:
            _TiesEnded: the module ties weights that the checkpoint stores with values of their own.
        """
        if schema is not None and is_suspicious(schema, len(checkpoint)):  # looked at before a module is made of it
            plan = plan_load(schema, cls._named(checkpoint, schema, policy), param_dtype, policy, source)
            plan.refuse_larger_than_memory()
        with ExitStack() as readers, cls._empty(config, inputs, **options) as model:
            found = model.schema if schema is None else schema
            named = cls._named(checkpoint, found, policy)
            if schema is None and not untied and (ended := cls._end_ties(config, found, named)):
                raise _TiesEnded(ended)
            if policy.strict is not False:
                refuse_lost_heads(found, untied, cls.__name__, source)
            if how is not None:
                found, named = model._take_packed(how, found, named)
            report = model.load_report = LoadReport(checkpoint.source)
            if placement is not None:
                model._asked_places = placement
            plan = model._fill(found, named, param_dtype, policy, source, readers, report)
        unfilled = {a.weight.name for a in plan.assignments} - set(report.assigned)
        if unfilled:
            raise CheckpointError("Weights were planned but not assigned.", received=", ".join(sorted(unfilled)))
        report.untied = [name for name in untied if name in found and found[name].tied_to is None]
        return model

    @classmethod
    def _by_name(cls, model_args: Sequence[Any]) -> tuple[dict[str, Any], Sequence[Any]]:
        """Return positional arguments of the constructor, those after the config: by name, and those without one."""
        parameters = list(inspect.signature(cls.__init__).parameters.values())[2:]
        names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return {}, tuple(model_args)
        if len(model_args) > len(names):
            raise ArgumentError(f"{cls.__name__} takes fewer arguments.", expected=", ".join(names) or "none",
                                received=f"{len(model_args)} after the path")  # fmt: skip
        return dict(zip(names, model_args, strict=False)), ()

    @classmethod
    def _load_config(
        cls, path: Any, config: Any, subfolder: str, kwargs: dict[str, Any]
    ) -> tuple[PretrainedConfig, dict[str, Any]]:
        if isinstance(config, PretrainedConfig):
            cls._check_config(config)
            return copy.deepcopy(config), kwargs
        source = path if config is None else config
        if not (isinstance(cls.config_class, type) and issubclass(cls.config_class, PretrainedConfig)):
            raise ArgumentError(
                f"{cls.__name__} has no config_class.",
                expected="a subclass of PretrainedConfig",
                received=repr(cls.config_class)[:80],
                remedy="set it, or pass a config object",
            )
        return cls.config_class.from_pretrained(source, subfolder=subfolder, return_unused_kwargs=True, **kwargs)

    @classmethod
    def _named(cls, checkpoint: Checkpoint, schema: Schema, policy: Policy) -> Checkpoint:
        """Return `checkpoint` under the names by which a model of `schema` knows its weights."""
        named = canonical(checkpoint, schema)
        return renamed(named, cls, policy.key_mapping, lambda: sources(schema, named))

    @classmethod
    def _end_ties(cls, config: PretrainedConfig, schema: Schema, checkpoint: Checkpoint) -> list[str]:
        """End in `config` the ties that the checkpoint contradicts; return the weights that they were of."""
        ended = []
        for weight in differing_ties(schema, checkpoint):
            if weight.untie_flag is not None:
                place, _, flag = f".{weight.untie_flag}".rpartition(".")
                holder = attrgetter(place[1:])(config) if place else config
                ended += [(weight.name, holder, flag)] if getattr(holder, flag, None) is not False else []
        for _, holder, flag in ended:
            setattr(holder, flag, False)
        return [name for name, _, _ in ended]

    def _fill(
        self,
        schema: Schema,
        checkpoint: Checkpoint,
        param_dtype: np.dtype | None,
        policy: Policy,
        source: str,
        readers: ExitStack,
        report: LoadReport,
    ) -> LoadPlan:
        """Give every weight its value, of `checkpoint` or a new one at the latest when `readers` close; `report` it."""
        if policy.strict is not False:
            refuse_kept_ties(schema, checkpoint, type(self).__name__, source)
        if not (self._is_of_a_part(self.config) or self.declared_schema is None):
            refuse_disagreement(type(self), schema, self._live_weights())
        hooked = self._has_load_hooks()
        lenient = replace(policy, strict=False) if hooked else policy
        plan = plan_load(schema, checkpoint, param_dtype, lenient, source)
        own = self._own_dtypes(schema)
        if param_dtype is not None:
            plan = plan.in_dtypes(own)
        plan.refuse_larger_than_memory()
        if hooked:
            plan = self._load_by_hooks(plan, checkpoint, report.record)
            if policy.strict is not False:
                refuse_missing(plan.missing, policy, source)
        else:
            elsewhere = self._keep_elsewhere(plan)
            here = [each for each in plan.assignments if each.weight.name not in elsewhere]
            ahead = readers.enter_context(ReadAhead(here, self.framework, self._read_ahead))
            for assignment in plan.assignments:
                if assignment.weight.name in elsewhere:
                    report.record(assignment)
            for assignment in here:
                try:
                    self._assign(assignment, ahead.read, report.record)
                except UnsupportedFormatError as cause:
                    raise UnsupportedFormatError(f"{assignment.weight.name} of {source}: {cause}") from cause
        self._initialise([replace(new, dtype=own.get(new.weight.name, new.dtype)) for new in plan.to_initialise])
        report.missing_keys = policy.reported(plan.missing)
        report.unexpected_keys = list(plan.unexpected)
        report.mismatched_keys = list(plan.mismatched)
        return plan

    def _handed_over(self, output_loading_info: bool) -> Any:
        """Return what `from_pretrained` returns."""
        return (self, self.load_report.as_loading_info()) if output_loading_info and self.load_report else self

    @staticmethod
    def _fix_state_dict_key_on_load(key: str) -> Any:
        """Return the name in this class of `key` in a checkpoint, or that and whether it is another; to override."""
        return key

    # -- small things that users of transformers call -----------------------------------------------------------

    @classmethod
    def register_for_auto_class(cls, auto_class: str | None = None) -> None:
        """Let saves write this class's code beside config.json, and `auto_map` in it name the class for `auto_class`.

        Raises:
            ArgumentError: there is no such auto class.
        """
        name = auto_class or f"{cls.class_prefix}AutoModel"
        known = [cls.class_prefix + task for task in AUTO_TASKS]
        if name not in known:
            raise ArgumentError(f"{name} is no auto class of {cls.__name__}.", expected=", ".join(known))
        cls._auto_class = name

    def add_model_tags(self, tags: str | Iterable[str]) -> None:
        """Add tags, each once, to this instance's `model_tags`.

        Raises:
            ArgumentError: one is no text.
        """
        new = [tags] if isinstance(tags, str) else list(tags) if isinstance(tags, Iterable) else [tags]
        if not all(isinstance(tag, str) for tag in new):
            raise ArgumentError("A tag is no text.", expected="text, or several", received=repr(tags)[:80])
        self.model_tags = list(dict.fromkeys([*(self.model_tags or []), *new]))  # type: ignore[misc]

    @classmethod
    def can_generate(cls) -> bool:
        """Return whether the class scores the next token, so that `generate` works: by its declaration, or as authors
        say it, by `prepare_inputs_for_generation` or `GenerationMixin`."""
        return cls._may_generate()


def _followed(config: PretrainedConfig, checkpoint: Checkpoint) -> Any:
    """Return the dtype that the config says; else the floating one of the files, or None if that are several."""
    stored = {ref.dtype for ref in checkpoint.values() if ref.dtype in FLOATING}
    return config.dtype or (stored.pop() if len(stored) == 1 else None)


def refuse_untaken(options: Mapping[str, Any], cls: type[ModelBase]) -> None:
    """Raise as `refuse_unknown` for keyword arguments that the constructor of `cls` does not take."""
    taken = inspect.signature(cls.__init__).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        refuse_unknown({name: value for name, value in options.items() if name not in taken}, cls)


def refuse_unknown(options: Mapping[str, Any], cls: type[ModelBase]) -> None:
    """Raise for keyword arguments that neither the config nor the class knows."""
    if options:
        raise ConfigError(
            f"{cls.__name__} does not know these keyword arguments.",
            expected="arguments of from_pretrained, fields of the config, or arguments of the class",
            received=", ".join(sorted(options)),
            remedy="remove them, or check their spelling",
        )
