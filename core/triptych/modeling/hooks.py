"""The hooks of `ModelBase`: all that a backend supplies, each a few lines long."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, TypeVar

import numpy as np

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.modeling.derived import LiveWeight
from triptych.tensors.dtypes import is_auto, parse_param_dtype
from triptych.tensors.ref import TensorRef
from triptych.weights.packing import Packed
from triptych.weights.plan import Assignment, LoadPlan, NewWeight
from triptych.weights.schema import Schema, Weight
from triptych.weights.surgery import Grow

Self = TypeVar("Self", bound="Hooks")
Answer = TypeVar("Answer")


class Hooks:
    """What the plans of core ask a framework to do; `_ops` is the backend's module `ops`."""

    _ops: ClassVar[Any]
    _asked_places: Any = None
    """What `_take_placement` returned, while a model is loaded."""
    _read_ahead: int | None = None
    """How many bytes a load may have read before they are assigned; None where the model adopts the arrays."""
    _modules_stay: ClassVar[bool] = False
    """Whether a module's layers cannot be changed once it is made; and to look at them takes a trace of a second."""

    @classmethod
    def _param_dtype(cls, dtype: Any, param_dtype: Any, config: PretrainedConfig) -> np.dtype | None:
        """Return the dtype of the parameters (None: as in the files) from the two arguments of `from_pretrained`."""
        return parse_param_dtype(dtype if param_dtype is None and is_auto(dtype) else param_dtype)

    @classmethod
    def _take_placement(cls, arguments: dict[str, Any]) -> Any:
        """Take what says where weights go out of the arguments of a load; None if nothing does."""
        return None

    def _keep_elsewhere(self, plan: LoadPlan) -> Collection[str]:
        """Decide where weights go, as `_asked_places` says; return the names of those that are not read into memory."""
        return ()

    @classmethod
    def _new_parameters(cls, dtype: Any, arguments: dict[str, Any]) -> AbstractContextManager[Any]:
        """Let a new model be made with `dtype` in this context: here, by an argument of its constructor."""
        if dtype is not None:
            arguments["dtype"] = dtype
        return nullcontext()

    @classmethod
    def _empty(
        cls: type[Self], config: PretrainedConfig, inputs: Sequence[Any], **options: Any
    ) -> AbstractContextManager[Self]:
        """Build a model whose parameters have no values; when the context ends they must have.

        `inputs` and `options` are arguments of the constructor, by position after the config and by name; but for
        `dtype`, which is that of `from_pretrained`.
        """
        raise NotImplementedError

    def _has_load_hooks(self) -> bool:
        """Return whether the module has its own way to take over a state, which a load must go."""
        return False

    def _load_by_hooks(
        self, plan: LoadPlan, checkpoint: Mapping[str, TensorRef], done: Callable[[Assignment], None]
    ) -> LoadPlan:
        """Let the module take over `checkpoint`; return what was assigned, of which `done` was called, and the rest."""
        raise NotImplementedError

    def _own_dtypes(self, schema: Schema) -> Mapping[str, np.dtype]:
        """Return name -> the dtype that the module itself has chosen for a weight, which a load keeps."""
        return {}

    def _refuse_adapted(self, done: str) -> None:
        """Raise `ArgumentError` if the model holds adapters, with which it cannot be `done`."""

    def _nested_models(self) -> Mapping[str, Any]:
        """Return the models of triptych within the module, but those within others of them, by the path to each."""
        return {}

    def _assign(
        self,
        assignment: Assignment,
        read: Callable[[Assignment], np.ndarray],
        done: Callable[[Assignment], None],
    ) -> None:
        """Give one weight the value that `read` returns, and then call `done`."""
        raise NotImplementedError

    def _initialise(self, new: Sequence[NewWeight]) -> None:
        """Initialise these weights as a new model would, but buffers, which have their first value."""
        raise NotImplementedError

    def _reader(self, params: Any = None) -> Callable[[Weight], np.ndarray]:
        """Return a function from weight to its array in canonical layout."""
        raise NotImplementedError

    def _dtype_reader(self, params: Any = None) -> Callable[[Weight], np.dtype]:
        """Return a function from weight to the numpy dtype in which the model holds it."""
        raise NotImplementedError

    def _replace(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Give weights new arrays, in canonical layout, of other shapes; `self.config` is already the new one."""
        raise NotImplementedError

    def _packable(self) -> Collection[str]:
        """Return the names of the weights whose layers can hold them packed."""
        raise NotImplementedError

    def _hold_packed(self, packed: Mapping[str, Packed]) -> None:
        """Let layers hold these weights packed: the parts have no values yet, which `_assign` or `_put` gives them."""
        raise NotImplementedError

    def _hold_whole(self, packed: Mapping[str, Packed]) -> None:
        """Undo `_hold_packed`; `_put` gives the weights their values."""
        raise NotImplementedError

    def _put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Give weights, or parts of packed ones, these values, in canonical layout."""
        raise NotImplementedError

    @classmethod
    def _check_library(cls, said: Mapping[str, Any]) -> None:
        """Raise `MissingBackendError` if the library that a quantisation config names is not installed."""
        raise NotImplementedError

    def _quantise_by_library(self, said: Mapping[str, Any]) -> None:
        """Quantise the layers of the loaded model by the library that a quantisation config names."""
        raise NotImplementedError

    def _refuse_other_embeddings(self, schema: Schema) -> None:
        """Raise `ArgumentError` if the input or output embeddings have no rows of tokens that `schema` knows."""

    def _initialise_rows(self, grown: Sequence[Grow]) -> None:
        """Give the rows that these edits appended the first values that a class of another's has a way of its own for;
        they have values already."""

    def _live_weights(self) -> list[LiveWeight]:
        """Return the parameters and persistent buffers of the live module, in order."""
        raise NotImplementedError

    def _tied_names(self) -> Iterable[str]:
        """Return patterns of the names that do not store an array which has several."""
        return ()

    def _live_vocab(self) -> Collection[str]:
        """Return the names of the parameters of the input and output embeddings."""
        raise NotImplementedError

    @classmethod
    def _look_at(cls, config: PretrainedConfig, arguments: Mapping[str, Any], ask: Callable[[Any], Answer]) -> Answer:
        """Return what `ask` says of a model of `config` and of these arguments, built without values."""
        raise NotImplementedError

    @classmethod
    def _call_arguments(cls) -> Collection[str]:
        """Return the names of the arguments with which the module is called."""
        raise NotImplementedError

    def _is_trainable(self, weight: Weight) -> bool:
        """Return whether `weight` is trained."""
        raise NotImplementedError

    @staticmethod
    def _to_native(array: np.ndarray) -> Any:
        """Return an array as the framework's own tensor, for a user's `save_function`."""
        raise NotImplementedError

    @staticmethod
    def _to_numpy(tensor: Any) -> np.ndarray:
        """Return a tensor of the framework as an array."""
        raise NotImplementedError

    def _replace_part(self, path: str, value: Any) -> None:
        """Put a layer in the place of the one at the dotted attribute `path`."""
        raise NotImplementedError

    def write_saved_model(self, folder: Any, signatures: Any = None) -> None:
        """Write the model in the framework's own format for serving."""
        raise NotImplementedError

    def _export(self, file: Any, inputs: Mapping[str, Any], **options: Any) -> None:
        """Write the model for inference with these inputs, as `Serving.export` says."""
        raise NotImplementedError

    @staticmethod
    def _stacked(several: Sequence[Any]) -> Any:
        """Return tensors of one shape as one, [number, ...]."""
        raise NotImplementedError

    def _cache_dtype(self) -> Any:
        """Return the dtype in which keys and values are kept."""
        raise NotImplementedError

    def _modules_inside(self) -> Iterable[Any]:
        """Return every module of the model, itself included."""
        raise NotImplementedError

    def _checkpoint_function(self, options: Mapping[str, Any] | None) -> Callable[..., Any]:
        """Return what calls a layer so that what it computes is not kept for the gradient, but computed anew.

        Raises:
            ArgumentError: unknown options.
        """
        if options:
            raise ArgumentError("Gradient checkpointing takes no arguments here.", received=", ".join(options))
        return self._ops.checkpointing()  # type: ignore[no-any-return]
