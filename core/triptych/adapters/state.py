"""The weights of an adapter under the names that they have in files of peft."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from triptych.adapters.config import LoraConfig
from triptych.adapters.targets import Target, refuse_tied, target, trained_whole
from triptych.errors import CheckpointError, ShapeMismatchError, UnsupportedFormatError
from triptych.tensors.arrays import converted
from triptych.tensors.dtypes import FLOATING
from triptych.tensors.ref import TensorRef
from triptych.weights.schema import Schema

PREFIX = "base_model.model."
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<which>[AB])(?P<leaf>\.weight|\.bias)?")
_BASE = ".base_layer."
"""What peft puts before the leaf of a weight of an adapted layer."""


@dataclass(frozen=True)
class AdapterState:
    """The weights of one adapter, not read yet.

    - `factors`: module -> A, [rank, ins], and B, [outs, rank].
    - `whole`: canonical name -> the values that a weight of the model has with this adapter.
    - `embeddings`: the modules among them that are embeddings.
    """

    factors: Mapping[str, tuple[TensorRef, TensorRef]]
    whole: Mapping[str, TensorRef]
    embeddings: frozenset[str] = frozenset()

    def names(self) -> list[str]:
        """Return the weights that the adapter changes or replaces, by canonical names."""
        return [*(f"{module}.weight" for module in self.factors), *self.whole]

    def renamed(self, change: Callable[[str], str]) -> AdapterState:
        """Return the same with each canonical name changed."""
        of = {module: change(f"{module}.weight").removesuffix(".weight") for module in self.factors}
        return AdapterState(
            {of[module]: pair for module, pair in self.factors.items()},
            {change(name): ref for name, ref in self.whole.items()},
            frozenset(of[module] for module in self.embeddings),
        )


def parsed(tensors: Mapping[str, TensorRef], source: str) -> AdapterState:
    """Return what the tensors of a file, or a `state_dict` of an adapter, are.

    Raises:
        CheckpointError: half of a pair is missing, or there is nothing. UnsupportedFormatError: a tensor of a kind of
        adapter that is not built in.
    """
    halves: dict[str, dict[str, TensorRef]] = {}
    whole, embeddings = {}, set()
    for name, ref in tensors.items():
        plain = name.removeprefix(PREFIX)
        match = _LORA.fullmatch(plain)
        if "lora_" in plain.rpartition(".lora_")[1] + plain.rpartition(".")[2] and not _is_factor(match):
            raise UnsupportedFormatError(
                f"{source} holds a tensor of an adapter that is not built in.",
                expected="lora_A.weight, lora_B.weight, lora_embedding_A and lora_embedding_B",
                received=name,
                remedy="merge the adapter into its model with peft, and load that",
            )
        if match is None:
            whole[plain.replace(_BASE, ".")] = ref
            continue
        halves.setdefault(match["module"], {})[match["which"]] = ref
        if match["embedding"]:
            embeddings.add(match["module"])
    if lacking := [module for module, pair in halves.items() if len(pair) != 2]:
        raise CheckpointError(f"{source} holds half of an adapter.", expected="A and B of each layer",
                              received=f"one of the two for {', '.join(lacking[:4])}")  # fmt: skip
    if not halves and not whole:
        raise CheckpointError(f"{source} holds no adapter.", expected="tensors of one", received="none")
    return AdapterState({m: (pair["A"], pair["B"]) for m, pair in halves.items()}, whole, frozenset(embeddings))


def _is_factor(match: re.Match[str] | None) -> bool:
    return match is not None and match["leaf"] != ".bias" and bool(match["embedding"]) == (match["leaf"] is None)


def fitted(state: AdapterState, names: Iterable[str], base_prefix: str, source: str) -> AdapterState:
    """Return `state` under the names of a model that has the weights `names`: as they are, or with the prefix of the
    backbone taken away, or put before them, where the adapter was trained in another class of the family.

    Raises:
        CheckpointError: a tensor is of no weight of the model.
    """
    known, prefix = set(names), f"{base_prefix}."

    def place(name: str) -> str:
        others = (name, prefix + name, name.removeprefix(prefix)) if base_prefix else (name,)
        return next((one for one in others if one in known), name)

    found = state.renamed(place)
    if strange := [name for name in found.names() if name not in known]:
        raise CheckpointError(
            f"{source} is an adapter of another model.",
            expected=f"layers of this model, such as {next(iter(known), 'none')}",
            received=", ".join(strange[:4]) + (f" and {len(strange) - 4} more" if len(strange) > 4 else ""),
            remedy="load it into the class and the model that it was trained with",
        )
    return found


def loaded_targets(state: AdapterState, config: LoraConfig, schema: Schema, source: str) -> list[Target]:
    """Return the layers that a loaded adapter changes, once everything in it is known to fit the model.

    Raises:
        ShapeMismatchError: a tensor has another shape than config and model say. CheckpointError: a weight that the
        config says is trained is not there. ArgumentError: a layer cannot be adapted. UnsupportedFormatError: a dtype.
    """
    found: list[Target] = []
    wrong: list[tuple[TensorRef, tuple[int, ...]]] = []
    for module, pair in state.factors.items():
        one = target(schema[f"{module}.weight"], config)
        found.append(one)
        wrong += [(ref, shape) for ref, shape in zip(pair, one.shapes, strict=True) if ref.shape != shape]
        if (module in state.embeddings) != one.is_embedding:
            raise CheckpointError(f"{source} takes {module} for another kind of layer.", expected=one.layout.value)
    wrong += [(ref, schema[name].shape) for name, ref in state.whole.items() if ref.shape != schema[name].shape]
    if wrong:
        raise ShapeMismatchError(
            f"{source} does not fit the model.",
            expected=", ".join(f"{ref.name} {shape}" for ref, shape in wrong[:4]),
            received=", ".join(f"{ref.name} {ref.shape}" for ref, _ in wrong[:4]),
            remedy="load the model that it was trained with; of a changed vocabulary, resize the model first",
        )
    refs = [ref for pair in state.factors.values() for ref in pair] + [*state.whole.values()]
    if strange := [ref for ref in refs if ref.dtype not in FLOATING]:
        raise UnsupportedFormatError(f"{source} holds no floating numbers.", received=f"{strange[0].name}: "
                                     f"{strange[0].dtype.name}", expected="float32, bfloat16, ...")  # fmt: skip
    refuse_tied(state.whole, schema)
    if lacking := [name for name in _expected_whole(config, schema, found) if name not in state.whole]:
        raise CheckpointError(f"{source} lacks weights that were trained with it.", expected=", ".join(lacking[:8]),
                              received="none of them", remedy="save the adapter again")  # fmt: skip
    return found


def _expected_whole(config: LoraConfig, schema: Schema, adapted: Sequence[Target]) -> list[str]:
    """Return what `modules_to_save` and `bias` say; peft names heads there that a model may lack."""
    names = tuple(one for one in config.modules_to_save if any(f".{one}." in f".{name}" for name in schema))
    return trained_whole(replace(config, modules_to_save=names), schema, adapted)


def named(
    targets: Sequence[Target], factors: Mapping[str, tuple[TensorRef, TensorRef]], whole: Mapping[str, TensorRef]
) -> dict[str, TensorRef]:
    """Return the weights of an adapter under the names of peft, without `PREFIX`."""
    found = {}
    for one in targets:
        for which, ref in zip("AB", factors[one.module], strict=True):
            leaf = f"lora_embedding_{which}" if one.is_embedding else f"lora_{which}.weight"
            found[f"{one.module}.{leaf}"] = ref
    adapted = {one.module for one in targets}
    for name, ref in whole.items():
        scope, _, leaf = name.rpartition(".")
        found[f"{scope}{_BASE}{leaf}" if scope in adapted else name] = ref
    return found


def held_as(dtype: np.dtype) -> np.dtype:
    """Return in which dtype the factors of an adapter are held whose file has `dtype`: at least float32, in which they
    are trained and computed."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def read_as_held(ref: TensorRef) -> np.ndarray:
    """Return a factor as it is held, in memory of its own."""
    return converted(np.array(ref.read()), held_as(ref.dtype))
