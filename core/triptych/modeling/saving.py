"""The saving of the three base classes: config, weights and code as one step."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from triptych.adapters.state import PREFIX
from triptych.checkpoints.legacy import LegacyWeight, tf_scope
from triptych.checkpoints.manifest import manifest_name
from triptych.checkpoints.naming import stored
from triptych.checkpoints.opening import Checkpoint
from triptych.checkpoints.saving import save_checkpoint
from triptych.config import CONFIG_NAME
from triptych.errors import ArgumentError, SaveError, ShapeMismatchError, TriptychError, UnsupportedFormatError
from triptych.files.atomic import whole_folder
from triptych.formats.kinds import BIN, SAFETENSORS, Format, format_to_save
from triptych.hub.pushing import PushToHubMixin, push_files
from triptych.hub.saved_code import code_of
from triptych.modeling.adapting import Adapting
from triptych.modeling.arguments import by_position, check_saving, main_process
from triptych.modeling.derived import refuse_disagreement
from triptych.modeling.key_names import stated, written
from triptych.tensors.dtypes import FLOATING
from triptych.tensors.ref import TensorRef
from triptych.weights.schema import Schema, Weight

logger = logging.getLogger("triptych")


class Saving(Adapting, PushToHubMixin):
    """Part of `ModelBase`: `save_pretrained`."""

    _keys_to_ignore_on_save: ClassVar[Sequence[str] | None] = None

    @by_position
    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Any] | None = None,
        params: Any = None,
        max_shard_size: int | str = "5GB",
        variant: str | None = None,
        format: str | None = None,
        safe_serialization: bool = True,
        remove_stale: bool = False,
        push_to_hub: bool = False,
        save_function: Callable[[dict[str, Any], str], Any] | None = None,
        save_peft_format: bool = True,
        saved_model: bool = False,
        version: int = 1,
        signatures: Any = None,
        manifest: bool = False,
        **push_arguments: Any,
    ) -> None:
        """Write config.json and the weights as one step that cannot lose a checkpoint, with the generation config and
        the code of registered classes beside them.

        Weights of the same variant and format that the folder holds are replaced. Those of other formats stay, unless
        some reader would take them in place of the new ones: then, what a save of triptych wrote is deleted, and
        anything else is renamed to `<name>.stale`, with a warning. So what loads, in every framework and for
        transformers, is what was saved last.

        A model with adapters writes the active one alone, as peft has it: adapter_config.json, and
        adapter_model.safetensors or, by `safe_serialization=False`, adapter_model.bin.

        Arguments after the folder may be given by position, in the order of transformers 4 for each framework.

        Args:
            save_directory: made if absent.
            is_main_process: False writes nothing, for the other processes of a distributed run.
            state_dict: canonical names to arrays, saved instead of the model's own values.
            params: Flax only: a parameter tree, saved instead of `self.params`.
            max_shard_size: bytes, or text such as "5GB"; larger checkpoints are split.
            variant: put before the suffix of every weight file.
            format: "safetensors" (names and layouts of PyTorch, which every framework's class loads), or as
                transformers 4 wrote them: "bin", "h5", "msgpack", "safetensors-tf", "safetensors-flax".
            safe_serialization: False means the framework's own older format: "bin", "h5" or "msgpack".
            remove_stale: delete the weights of the same variant in all other formats, whoever wrote them.
            save_function: PyTorch only, and only for "bin", as in transformers 4: called with the tensors by name and
                the path, once for each file, instead of the writer of triptych; what it writes is read back.
            save_peft_format: of a model with adapters: False leaves out "base_model.model." before the names, which
                peft needs.
            saved_model, version, signatures: TensorFlow only: write `saved_model/<version>/` for TensorFlow Serving
                too, with these signatures (`TFPreTrainedModel.write_saved_model`). It is written first, under another
                name, and renamed once the weights are saved: if it fails, nothing is changed. Files of others in that
                folder, such as `assets.extra`, stay.
            manifest: record the SHA-256 of each tensor, and of each file that this save writes, beside them in
                `triptych_manifest.json` (of a variant: `triptych_manifest.<variant>.json`), which changes together with
                the weights; `from_pretrained(verify=True)` and `triptych verify` check it. A save without it removes
                the one of the weights that it replaces. An adapter has none.
            push_to_hub: push what was written too, in one commit; `push_arguments` are those of `push_to_hub`, with
                `repo_id` the folder's name by default.

        Raises:
            SaveError: the checkpoint that was there before still loads. ArgumentError.
            ShapeMismatchError: of `state_dict`.
            ConfigError: a field of `self.config` was set to an impossible value; nothing is written.
            HubError and its subclasses: of the push; the folder is written then.
            UnsupportedFormatError: a dtype that the format cannot hold.
        """
        chosen = format_to_save(format, safe_serialization, self.framework)
        self._check_config(self.config)
        check_saving(self.framework, saved_model, version, signatures, save_function, params)
        is_main_process = main_process(is_main_process, push_arguments)
        push = self._push_of_save(push_to_hub, save_directory, push_arguments)
        if not is_main_process:
            return
        if self._hf_peft_config_loaded:
            _refuse_for_adapter({"format": format not in (None, *_OF_ADAPTERS), "variant": variant,
                                 "saved_model": saved_model, "save_function": save_function,
                                 "manifest": manifest})  # fmt: skip
            safe = chosen is SAFETENSORS
            files = self._save_adapter(save_directory, safe, state_dict, PREFIX if save_peft_format else "", params)
            if push is not None:
                push_files(push, {file.name: file for file in files})
            return
        self._refuse_inner_adapters()
        schema = self.schema
        _refuse_packed(schema, chosen)
        refs = self._tensor_refs(params) if state_dict is None else self._given_refs(state_dict, schema)
        left_out = set(stated(self, "_keys_to_ignore_on_save"))
        refs = [ref for ref in refs if ref.name not in left_out]
        self._warn_of_sharing(schema)
        if chosen is BIN and state_dict is None:
            refs += _tied_refs(refs, schema)
        if chosen.flavour == "pt":
            refs = written(refs, type(self))
        config = copy.deepcopy(self.config)
        config.architectures = [self._stem()]
        config.dtype = _common_dtype([ref for ref in refs if not _is_part(schema, ref.name)]) or config.dtype
        beside = self._generation_beside(config)
        for cls in (type(config), type(self)):
            auto_map, texts = code_of(cls)
            config._map_auto(auto_map)
            beside |= texts
        with self._served_beside(save_directory, version, signatures) if saved_model else nullcontext():
            files = save_checkpoint(
                save_directory,
                stored(refs, schema, chosen, self._stored_names(chosen)),
                config.to_json_string(),
                max_shard_size=max_shard_size,
                variant=variant,
                format=chosen,
                scope=tf_scope(self._stem()),
                also=beside,
                remove_stale=remove_stale,
                writer=self._writer(save_function) if chosen is BIN else None,
                manifest=manifest,
            )
        if push is not None:
            names = (CONFIG_NAME, *beside, *[manifest_name(variant)] * manifest)
            files += [Path(save_directory) / name for name in names]
            push_files(push, {file.name: file for file in files}, variant, remove_stale)

    @contextmanager
    def _served_beside(self, save_directory: str | os.PathLike[str], version: int, signatures: Any) -> Iterator[None]:
        """Write a SavedModel first, and let it be found once the context has ended well.

        Raises:
            SaveError: it cannot be written; nothing else was then.
        """
        folder = Path(save_directory) / "saved_model" / str(version)
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise SaveError("Something else is in the place of the SavedModel.", expected="a folder, or nothing",
                            received=str(folder))  # fmt: skip
        try:
            with whole_folder(folder, _OF_SAVED_MODELS) as new:
                self.write_saved_model(new, signatures)
                yield
        except TriptychError:  # of which some are an OSError
            raise
        except OSError as cause:
            raise SaveError("The SavedModel cannot be written.", received=str(cause)) from cause

    def _writer(self, save_function: Callable[..., Any] | None) -> Callable[[Sequence[TensorRef], Path], None] | None:
        """Return what writes the tensors of a file by the user's `save_function`, or None."""
        if save_function is None:
            return None

        def write(refs: Sequence[TensorRef], file: Path) -> None:
            tensors = {ref.read: self._to_native(ref.read()) for ref in refs}
            try:
                save_function({ref.name: tensors[ref.read] for ref in refs}, str(file))
            except (TriptychError, OSError):  # which a save reports as its own
                raise
            except Exception as cause:
                raise SaveError(
                    "save_function failed; the folder holds what it held before.",
                    received=f"{type(cause).__name__}: {cause}",
                ) from cause

        return write

    def _warn_of_sharing(self, schema: Schema) -> None:
        """Warn of weights that share memory although the class does not say so: they are saved once, and tied again
        when they are loaded."""
        if self.declared_schema is not None:
            return
        keys: Iterable[str] = getattr(self, "_tied_weights_keys", None) or ()
        for weight in schema.values():
            names = (weight.name, weight.tied_to or "")
            if weight.tied_to is not None and not any(re.search(key, name) for key in keys for name in names):
                logger.warning("%s of %s shares memory with %s, which _tied_weights_keys does not say: saved once",
                               weight.name, type(self).__name__, weight.tied_to)  # fmt: skip

    @staticmethod
    def _fix_state_dict_key_on_save(key: str) -> Any:
        """Return under which name weight `key` is written, or that and whether it is another; to override."""
        return key

    def _stored_names(self, chosen: Format) -> Mapping[str, LegacyWeight]:
        """Return what files of `chosen` call those weights whose names the model tells better than its schema."""
        return {}

    @classmethod
    def _in_memory(cls, state_dict: Mapping[str, Any], copied: bool = False) -> Checkpoint:
        """Return arrays, of numpy or of the framework, as a checkpoint; `copied` where a model will adopt them."""
        try:
            arrays = {n: v if isinstance(v, np.ndarray) else cls._to_numpy(v) for n, v in state_dict.items()}
        except (AttributeError, TypeError) as cause:
            raise ArgumentError(
                "state_dict holds something else.", expected="canonical names to arrays", received=str(cause)
            ) from cause
        if strange := [name for name in arrays if not isinstance(name, str)]:
            raise ArgumentError("state_dict has keys that are no names.", expected="canonical names to arrays",
                                received=", ".join(map(repr, strange))[:80])  # fmt: skip
        refs = {n: TensorRef.of(n, np.array(a) if copied else a) for n, a in arrays.items()}
        return Checkpoint(refs, {}, "state_dict")

    def _given_refs(self, state_dict: Mapping[str, Any], schema: Schema) -> list[TensorRef]:
        """Return arrays by name; without what a wrapper of PyTorch has put before every name.

        Raises:
            ShapeMismatchError: a weight has another shape than the model: what is saved would not load.
        """
        refs = list(self._in_memory(state_dict).values())
        for prefix in _OF_WRAPPERS:
            if schema.keys().isdisjoint(state_dict) and all(name.startswith(prefix) for name in state_dict):
                refs = [dataclasses.replace(ref, name=ref.name.removeprefix(prefix)) for ref in refs]
                break
        wrong = [ref for ref in refs if ref.name in schema and ref.shape != schema[ref.name].shape]
        if wrong:
            raise ShapeMismatchError(
                "state_dict holds weights of other shapes than the model.",
                expected=", ".join(f"{ref.name} {schema[ref.name].shape}" for ref in wrong),
                received=", ".join(f"{ref.name} {ref.shape}" for ref in wrong),
                remedy="resize the model first, or change its config and load it anew",
            )
        return refs

    def _tensor_refs(self, params: Any = None) -> list[TensorRef]:
        """Return the weights under canonical names, in canonical layout, to be read one at a time."""
        if self.declared_schema is not None and not self._is_of_a_part(self.config):
            refuse_disagreement(type(self), self.schema, self._live_weights())
        source, dtype_of = self._reader(params), self._dtype_reader(params)
        return [
            TensorRef(w.name, dtype_of(w), w.shape, lambda w=w: source(w))  # type: ignore[misc]
            for w in self._weights_to_save(params)
        ]

    def _weights_to_save(self, params: Any) -> list[Weight]:
        """Return the weights that a save writes; in Flax, of a tree of parameters."""
        return self.schema.stored()


_OF_SAVED_MODELS = (
    "saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb", "variables", "assets"
)  # fmt: skip
"""What TensorFlow and Keras write into the folder of a SavedModel; others put `assets.extra` beside."""
_OF_ADAPTERS = (SAFETENSORS.name, BIN.name)
"""The formats of peft."""


def _refuse_for_adapter(arguments: Mapping[str, Any]) -> None:
    """Raise `ArgumentError` for arguments of a save that an adapter, which is all that is saved, does not have."""
    if given := [name for name, value in arguments.items() if value]:
        raise ArgumentError(
            "The model holds adapters, of which a save writes the active one as peft has it.",
            expected=f"at most format= one of {', '.join(_OF_ADAPTERS)}",
            received=", ".join(given),
            remedy="leave these out; or call merge_and_unload() or delete_adapter(...), and save the model",
        )


_OF_WRAPPERS = ("_orig_mod.", "module.")
"""What torch.compile, and wrappers for parallel training, put before the names in their `state_dict`."""


def _tied_refs(refs: Sequence[TensorRef], schema: Schema) -> list[TensorRef]:
    """Return the tied weights, which share what the `refs` of their sources read: torch's files hold them all."""
    there = {ref.name: ref for ref in refs}
    tied = {w.name: w.tied_to for w in schema.values() if w.tied_to and w.name not in there}
    return [dataclasses.replace(there[source], name=name) for name, source in tied.items() if source in there]


def _is_part(schema: Schema, name: str) -> bool:
    """Return whether a tensor is of a packed weight."""
    return name in schema and schema[name].packed is not None


def _refuse_packed(schema: Schema, format: Format) -> None:
    """Raise `UnsupportedFormatError` if `format` has no names for packed weights that are in `schema`."""
    names = [name for name in schema if _is_part(schema, name)]
    if names and format.flavour != "pt":
        raise UnsupportedFormatError(
            f"Files of {format.name} hold no packed weights.",
            expected="format safetensors, or bin",
            received=format.name,
            remedy="save it as safetensors, which every framework loads; or call dequantize() first",
        )


def _common_dtype(refs: Sequence[TensorRef]) -> str | None:
    """Return the name of the floating dtype with the most bytes, or None."""
    sizes: dict[str, int] = {}
    for ref in refs:
        if ref.dtype in FLOATING:
            sizes[ref.dtype.name] = sizes.get(ref.dtype.name, 0) + ref.nbytes
    return max(sizes, key=lambda name: sizes[name]) if sizes else None
