"""Models that keep weights packed: loaded so, made so, and made whole again."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from triptych.checkpoints.opening import Checkpoint
from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError, InconsistentCheckpointError
from triptych.hub.files import cached_file
from triptych.modeling import quantised
from triptych.modeling.schemas import Schemas
from triptych.tensors.dtypes import FLOATING, parse_param_dtype
from triptych.weights.packing import Packed, Packing, applied
from triptych.weights.schema import Schema

Self = TypeVar("Self", bound="Packs")
_BITS = ("load_in_8bit", "load_in_4bit")


@dataclass(frozen=True)
class Quantising:
    """How a load treats quantised weights.

    - `said`: what the config of the model says of them afterwards.
    - `packing`: which are packed; None for a library, which quantises the loaded model.
    - `encode`: whether weights that are stored in floating numbers are packed.
    """

    said: dict[str, Any]
    packing: Packing | None
    encode: bool


def take_quantisation(kwargs: dict[str, Any], cls: Any) -> Mapping[str, Any] | None:
    """Remove from the arguments of `from_pretrained` those that ask for quantised weights, and return what they say.

    Raises:
        ArgumentError: two of them, a method that there is not, or one of PyTorch only.
    """
    own = cls._constructor_arguments()
    bits = {name: kwargs.pop(name) for name in _BITS if name in kwargs and name not in own}
    asked = [name for name, value in bits.items() if value]
    given = None if quantised.FIELD in own else kwargs.pop(quantised.FIELD, None)
    several = [*asked, *([quantised.FIELD] if given is not None else [])]
    if len(several) > 1:
        raise ArgumentError("How are the weights quantised?", expected="quantization_config alone",
                            received=" and ".join(several))  # fmt: skip
    said = {"quant_method": "bitsandbytes", asked[0]: True} if asked else quantised.as_mapping(given or {})
    if given is not None and not said:
        raise ArgumentError("quantization_config says nothing.", expected="a config such as QuantizationConfig('int8')",
                            received=repr(given)[:80])  # fmt: skip
    if said:
        _packing_or_refused(said, cls)
    return said or None


def _packing_or_refused(said: Mapping[str, Any], cls: Any) -> Packing | None:
    method = quantised.method_of(said)
    if method in quantised.LIBRARIES and cls.framework == "pt":
        cls._check_library(said)
        return None
    packing = None if method in quantised.LIBRARIES else quantised.packing_of(said)
    if packing is None:
        raise ArgumentError(
            f"{cls.__name__} cannot quantise with {method}: this quantization_config is not known.",
            expected="triptych, gguf, fp8, and in PyTorch bitsandbytes and torchao",
            received=f"quant_method {method}",
            remedy="pass quantization_config=triptych.QuantizationConfig('int8') or 'int4'",
        )
    return packing


class Packs(Schemas):
    """Part of `ModelBase`: weights that are codes with scales, decoded where layers compute with them."""

    @property
    def is_quantized(self) -> bool:
        """Whether weights are packed, here or by a library."""
        return self.quantization_method is not None

    @property
    def quantization_method(self) -> str | None:
        """The `quant_method` of the config, or None."""
        return quantised.quantised_by(self.config)

    def quantize_weights(self: Self, quantization_config: Any) -> Self:
        """Pack the weights of this model in place, and return it.

        Args:
            quantization_config: as that of `from_pretrained`: a `QuantizationConfig` and the like, or a dict.

        Raises:
            ArgumentError: the model is quantised already, or this is no config; nothing is changed.
            MissingBackendError: a library that is not installed.
        """
        self._refuse_packed("quantised again")
        self._refuse_adapted("quantised")
        said = quantised.as_mapping(quantization_config)
        packing = _packing_or_refused(said, type(self))
        if packing is None:
            self._quantise_by_library(said)
            self.config.quantization_config = quantised.plain(said)
            return self
        if packing.codec is None:
            raise ArgumentError("This model is no GGUF file, whose packing could be kept.",
                                expected="QuantizationConfig('int8') or 'int4'", received="gguf")  # fmt: skip
        packing, able = self._of_own(packing)
        packed, read = packing.chosen(self.schema, able), self._reader()
        _refuse_none(packed, type(self).__name__)
        arrays = {
            part.name: array
            for one in packed.values()
            for part, array in zip(one.parts, one.encode(read(one.weight)), strict=True)
        }
        self._hold_packed(packed)
        self._note_packed(packed)
        self._put(arrays)
        self.config.quantization_config = quantised.plain(said)
        return self

    def dequantize(self: Self, dtype: Any = None) -> Self:
        """Give the weights of this model floating numbers again, in place, and return it.

        Args:
            dtype: theirs; None for that of the weights that were not packed.

        Raises:
            ArgumentError: the model is not quantised.
        """
        if not self._packed:
            raise ArgumentError(f"{type(self).__name__} has no packed weights.", expected="a quantised model",
                                received=f"quantization_method {self.quantization_method}")  # fmt: skip
        self._refuse_adapted("made whole")
        packed, read = dict(self._packed), self._reader()
        wanted = self._dtype_beside() if dtype is None else parse_param_dtype(dtype)
        arrays = {name: one.decode(map(read, one.parts)).astype(wanted, copy=False) for name, one in packed.items()}
        self._hold_whole(packed)
        self._note_packed({})
        self._put(arrays)
        quantised.without(self.config)
        return self

    def _dtype_beside(self) -> np.dtype:
        """Return the dtype of the floating weights that are not packed."""
        found = map(self._dtype_reader(), (weight for weight in self.schema.stored() if weight.packed is None))
        return next((dtype for dtype in found if dtype in FLOATING), np.dtype(np.float32))

    # -- of a load ----------------------------------------------------------------------------------------------

    @classmethod
    def _quantising(cls, config: PretrainedConfig, wanted: Mapping[str, Any] | None) -> Quantising | None:
        """Return how a load treats quantised weights; `config` is one of floating numbers from now on.

        Raises:
            ArgumentError: the checkpoint is quantised, in another way than is asked for.
        """
        said = quantised.without(config)
        if said is None and wanted is None:
            return None
        if said is not None:
            if wanted is not None and quantised.method_of(wanted) != quantised.method_of(said):
                raise ArgumentError(
                    "The checkpoint is quantised already, in another way.",
                    expected=f"no quantization_config, or one of quant_method {quantised.method_of(said)}",
                    received=f"quant_method {quantised.method_of(wanted)}",
                    remedy="load it without, call dequantize(), and then quantize_weights(...)",
                )
            return Quantising(dict(said), quantised.packing_of(said), encode=False)
        asked = wanted or {}
        return Quantising(dict(asked), _packing_or_refused(asked, cls), encode=True)

    def _take_packed(self, how: Quantising, schema: Schema, checkpoint: Checkpoint) -> tuple[Schema, Checkpoint]:
        """Let the layers, which have no values yet, hold their weights packed; return the schema of the model then, and
        the tensors that it is to be filled with.

        Raises:
            InconsistentCheckpointError: no weight is packed.
        """
        if how.packing is None:
            return schema, checkpoint
        packing, able = self._of_own(how.packing)
        packed, refs = (packing if how.encode else how.packing).taken(schema, checkpoint, how.encode, able)
        _refuse_none(packed, checkpoint.source)
        self._hold_packed(packed)
        self._note_packed(packed)
        if how.packing.codec is None:
            how.said.update(_described(packing, packed, schema.base_prefix, how.said))
        found = Checkpoint(refs, checkpoint.metadata, checkpoint.source, checkpoint.flavour, checkpoint.files)
        return applied(schema, packed), found

    def _of_own(self, packing: Packing) -> tuple[Packing, Collection[str] | None]:
        """Return how weights of this class are packed when it is asked to, and which of them its layers can hold so;
        None for all. A class of another's keeps its embeddings, whose layers may be of any kind."""
        if self._is_its_part() and self._is_of_a_part(self.config):
            return packing, None
        return replace(packing, vocabulary=False), self._packable()

    def _note_packed(self, packed: Mapping[str, Packed]) -> None:
        """Note which weights are packed, in the models within this one too."""
        self.__dict__["_packed"] = dict(packed)
        for path, model in self._nested_models().items():
            dot = f"{path}."
            model.__dict__["_packed"] = {
                name.removeprefix(dot): replace(one, weight=replace(one.weight, name=name.removeprefix(dot)))
                for name, one in packed.items()
                if name.startswith(dot)
            }

    def _refuse_packed(self, done: str, axis: str | None = None) -> None:
        """Raise `ArgumentError` if weights are packed, or with `axis` such that have it: they cannot be `done`."""
        names = [n for n, one in self._packed.items() if axis is None or one.weight.axis_index(axis) is not None]
        if names or (self.is_quantized and not self._packed):
            raise ArgumentError(
                f"{type(self).__name__} is quantised and cannot be {done}.",
                expected="weights in floating numbers",
                received=", ".join(names[:4]) or f"quant_method {self.quantization_method}",
                remedy="call dequantize() first, and quantize_weights(...) after it",
            )


def _described(packing: Packing, packed: Mapping[str, Packed], prefix: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the config says of a model whose weights are as a GGUF file packs them."""
    codec, others = packing.described(packed, prefix)
    kept = {name: said[name] for name in ("modules_to_not_convert",) if said.get(name)}
    more = {"codecs": {name: one.name for name, one in others.items()}} if others else {}
    return {"quant_method": quantised.OWN, "codec": codec.name, **more, **kept}


def _refuse_none(packed: Mapping[str, Packed], source: str) -> None:
    if not packed:
        raise InconsistentCheckpointError(
            f"{source} has no weights that could be packed as its config says.",
            expected="matrices of linear layers, and codes where config.quantization_config says so",
            received="none",
            remedy="correct modules_to_not_convert; or set config.quantization_config to None, of floating weights",
        )


def gguf_of(path: Any, gguf_file: Any, subfolder: str, hub: Mapping[str, Any]) -> str | None:
    """Return the GGUF file that a load names: by its path, or by its name in a folder or repository; None if none.

    Raises:
        ArgumentError: `gguf_file` is no name. MissingFileError, HubError and its subclasses: there is no such file.
    """
    if gguf_file is None:
        named = isinstance(path, (str, os.PathLike)) and os.fspath(path).lower().endswith(".gguf")
        return os.fspath(path) if named and os.path.isfile(path) else None
    if not isinstance(gguf_file, str):
        raise ArgumentError("gguf_file is no name.", expected="the name of a file, such as model.Q4_1.gguf",
                            received=repr(gguf_file)[:80])  # fmt: skip
    return cached_file(path, gguf_file, subfolder=subfolder, **hub)
