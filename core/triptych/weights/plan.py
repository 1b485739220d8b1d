"""How a checkpoint fills a model: `LoadPlan`, made of names and shapes only, and the report of what was done."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from triptych.errors import (
    ArgumentError,
    CheckpointError,
    ConfigError,
    InconsistentCheckpointError,
    ShapeMismatchError,
    UnsupportedFormatError,
)
from triptych.files.regular import memory_of_the_machine
from triptych.tensors import arrays
from triptych.tensors.checked import CheckedReader
from triptych.tensors.dtypes import BFLOAT16, FLOATING
from triptych.tensors.ref import TensorRef
from triptych.weights import layouts
from triptych.weights.quantised import REMEDY, stored_quantised
from triptych.weights.schema import Layout, Schema, Weight


@dataclass(frozen=True)
class Assignment:
    """One weight, the tensor of the checkpoint that fills it, and the dtype it gets.

    `copied`: another weight gets a view of the same memory, and this one must not.
    """

    weight: Weight
    ref: TensorRef
    dtype: np.dtype
    copied: bool = False

    def needs_work(self, framework: str) -> bool:
        """Return whether reading copies, casts, permutes or hashes, and is not just a view of the file."""
        hashes = isinstance(self.ref.read, CheckedReader)
        return hashes or self.copied or self.ref.dtype != self.dtype or self._order(framework) is not None

    def in_native_layout(self, framework: str) -> bool:
        """Return whether the file has it in the layout that `framework` keeps it in."""
        return self._order(framework) is None

    def read(self, framework: str) -> np.ndarray:
        """Return the array in the layout that `framework` keeps it in."""
        array, order = self.ref.read(), self._order(framework)
        if self.copied and order is None:
            return arrays.converted(array, self.dtype)
        return arrays.permuted(array, order, self.dtype)

    def _order(self, framework: str) -> tuple[int, ...] | None:
        return layouts.to_native(self.weight.layout, len(self.weight.axes), framework)


@dataclass(frozen=True)
class NewWeight:
    """One weight that no tensor fills, which is initialised instead, and the dtype it gets."""

    weight: Weight
    dtype: np.dtype


_COUNTER = "num_batches_tracked"
"""PyTorch's BatchNorm counts the batches of its training, and computes nothing with it; others do not."""
Mismatch = tuple[str, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Policy:
    """What a load tolerates.

    `strict`: None refuses damage (a missing backbone weight, a wrong shape, copies that differ), True refuses a new
    head and unexpected names too, False refuses nothing. `ignore_mismatched_sizes` initialises other shapes.
    The two pattern lists are the class attributes `_keys_to_ignore_on_load_missing` and `..._unexpected`; what they
    match is not reported either. `key_mapping` renames what the checkpoint holds, see `modeling.key_names`.
    `keep_in_fp32` names modules that stay float32 in a model of float16, `keep_in_fp32_strict` in one of bfloat16 too.
    `allow_missing` initialises missing weights of the backbone too.
    """

    strict: bool | None = None
    ignore_mismatched_sizes: bool = False
    ignore_missing: tuple[str, ...] = ()
    ignore_unexpected: tuple[str, ...] = ()
    key_mapping: Mapping[str, str] | None = None
    keep_in_fp32: tuple[str, ...] = ()
    keep_in_fp32_strict: tuple[str, ...] = ()
    allow_missing: bool = False

    def __post_init__(self) -> None:
        if not (self.strict is None or isinstance(self.strict, bool)):
            raise ArgumentError("strict is none.", expected="None, True or False", received=repr(self.strict)[:80])

    def reported(self, missing: Iterable[Weight]) -> list[str]:
        """Return the names of those of the weights `missing` that a report lists."""
        return [weight.name for weight in missing if not _matches(weight.name, self.ignore_missing)]

    def widened(self, name: str, dtype: np.dtype) -> np.dtype:
        """Return the dtype that weight `name` gets where `dtype` was asked for, or is what its file holds."""
        kept = self.keep_in_fp32_strict if dtype in (np.float16, BFLOAT16) else ()
        kept += self.keep_in_fp32 if dtype == np.float16 else ()
        return np.dtype(np.float32) if any(is_below(name, module) for module in kept) else dtype


def is_below(name: str, module: str) -> bool:
    """Return whether the dotted `module` is a part of the dotted name of a weight, or all of it."""
    return f".{module}." in f".{name}."


@dataclass(frozen=True)
class LoadPlan:
    """What to read for each weight, and what does not fit.

    - `missing`: weights to be initialised.
    - `unexpected`: names of the checkpoint that nothing takes.
    - `mismatched`: (name, shape in the checkpoint, shape in the model), to be initialised.
    - `param_dtype`: the dtype that was asked for; None follows the files.
    - `policy`: what the load was told.
    """

    schema: Schema
    assignments: tuple[Assignment, ...]
    missing: tuple[Weight, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    param_dtype: np.dtype | None = None
    policy: Policy = field(default_factory=Policy)

    def in_dtypes(self, own: Mapping[str, np.dtype]) -> LoadPlan:
        """Return the plan with floating weights in the dtypes that `own` has for them."""
        return replace(self, assignments=tuple(self._in_dtype(each, own) for each in self.assignments))

    def _in_dtype(self, assignment: Assignment, own: Mapping[str, np.dtype]) -> Assignment:
        dtype = own.get(assignment.weight.name)
        if assignment.weight.packed is not None or dtype not in FLOATING or assignment.dtype not in FLOATING:
            return assignment
        return replace(assignment, dtype=self.policy.widened(assignment.weight.name, dtype))

    @property
    def to_initialise(self) -> tuple[NewWeight, ...]:
        """The weights that no tensor fills: in the dtype asked for, or that all others have, else in float32."""
        shapes = {name for name, _, _ in self.mismatched}
        new = (*self.missing, *(weight for weight in self.schema.stored() if weight.name in shapes))
        dtype = self.dtype_of_new
        return tuple(NewWeight(weight, self.policy.widened(weight.name, dtype)) for weight in new)

    def refuse_larger_than_memory(self) -> None:
        """Raise `ConfigError` if the memory of this machine cannot hold the weights that no tensor fills."""
        new, memory = self.to_initialise, memory_of_the_machine()
        least = sum(each.dtype.itemsize * math.prod(each.weight.shape) for each in new)
        if memory is not None and least > memory:
            largest = max((each.weight for each in new), key=lambda weight: math.prod(weight.shape))
            raise ConfigError(
                "The config asks for new weights that are larger than the memory of this machine.",
                expected=f"at most {memory / 1e9:.1f} GB that the files do not hold",
                received=f"{least / 1e9:.1f} GB; the largest is {largest.name} {list(largest.shape)}",
                remedy="look at the sizes in config.json",
            )

    @property
    def dtype_of_new(self) -> np.dtype:
        """The dtype of a floating weight that no tensor fills."""
        plain = [a for a in self.assignments if a.weight.packed is None]
        whole = [a for a in plain if self.policy.widened(a.weight.name, a.ref.dtype) == a.ref.dtype]
        others = {assignment.dtype for assignment in whole if assignment.dtype in FLOATING}
        return self.param_dtype or (others.pop() if len(others) == 1 else np.dtype(np.float32))


@dataclass
class LoadReport:
    """What a load did, filled in after each weight was assigned. Keys as transformers names them."""

    source: str
    missing_keys: list[str] = field(default_factory=list)
    unexpected_keys: list[str] = field(default_factory=list)
    mismatched_keys: list[Mismatch] = field(default_factory=list)
    error_msgs: list[str] = field(default_factory=list)
    assigned: dict[str, str] = field(default_factory=dict)
    untied: list[str] = field(default_factory=list)

    def record(self, assignment: Assignment) -> None:
        """Note that a weight has its value now."""
        self.assigned[assignment.weight.name] = assignment.ref.name

    def log(self, logger: logging.Logger, path: str, class_name: str, of_this_class: bool = False) -> None:
        """Warn of weights that start from random values, and of what a checkpoint `of_this_class` holds beside; of what
        one of another class does, that is worth a note only."""
        wrong = [f"{name} (stored {stored}, here {here})" for name, stored, here in self.mismatched_keys]
        new = [*self.missing_keys, *wrong]
        if new:
            logger.warning(
                "%s from %s: %d weights are newly initialised, train them before use: %s",
                class_name, path, len(new), ", ".join(new),
            )  # fmt: skip
        if self.unexpected_keys:
            level = logging.WARNING if of_this_class else logging.INFO
            logger.log(level, "%s from %s: %d weights not used: %s", class_name, path, len(self.unexpected_keys),
                       ", ".join(self.unexpected_keys))  # fmt: skip
        if self.untied:
            logger.info("%s from %s: stored with values of its own, so not tied: %s", class_name, path, self.untied)

    def as_loading_info(self) -> dict[str, object]:
        """Return the four keys of `output_loading_info=True`."""
        return {
            "missing_keys": self.missing_keys,
            "unexpected_keys": self.unexpected_keys,
            "mismatched_keys": self.mismatched_keys,
            "error_msgs": self.error_msgs,
        }


def sources(schema: Schema, checkpoint: Mapping[str, TensorRef]) -> dict[str, list[str]]:
    """Return, for each name of the schema, the names of the checkpoint that hold it, the best first.

    Every rule is an exact name: the name itself, its aliases, and both with the base prefix put on or taken off, when
    the checkpoint is of the backbone's class and the model has a head, or the other way round.
    """
    dot = f"{schema.base_prefix}."
    prefixed = bool(schema.base_prefix) and any(name.startswith(dot) for name in checkpoint)

    def spelled(name: str) -> str:
        if schema.is_base:
            return dot + name if prefixed else name
        return name if prefixed else name.removeprefix(dot) if schema.base_prefix else name

    result = {}
    for weight in schema.values():
        old = [name for name in old_names(weight) if name not in schema]
        names = [spelled(name) for name in (weight.name, *weight.aliases, *old)]
        result[weight.name] = [name for name in dict.fromkeys(names) if name in checkpoint]
    return result


_OLD_LEAVES = {Layout.NORM: ("weight", "gamma"), Layout.NORM_BIAS: ("bias", "beta")}
_WEIGHT_NORM = (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))


def old_names(weight: Weight) -> list[str]:
    """Return under which names other versions of PyTorch and of converters keep a weight of this name and layout:
    the scale and shift of a norm, and what torch's weight_norm splits a weight into."""
    pairs = [_OLD_LEAVES[weight.layout]] if weight.layout in _OLD_LEAVES else []
    pairs += [*_WEIGHT_NORM, *((old, new) for new, old in _WEIGHT_NORM)]
    return [weight.name.removesuffix(new) + old for new, old in pairs if f".{weight.name}".endswith(f".{new}")]


def differing_ties(schema: Schema, checkpoint: Mapping[str, TensorRef]) -> list[Weight]:
    """Return the tied weights that the checkpoint stores with values of their own."""
    tied = [weight for weight in schema.values() if weight.tied_to]
    if not tied:
        return []
    found = sources(schema, checkpoint)
    tied = [w for w in tied if found[w.name] and found[w.tied_to or ""]]
    return [w for w in tied if not _same(checkpoint[found[w.name][0]], checkpoint[found[w.tied_to or ""][0]])]


def _same(one: TensorRef, other: TensorRef) -> bool:
    if one.name == other.name:
        return True
    same_kind = one.shape == other.shape and one.dtype == other.dtype
    return same_kind and one.read().tobytes() == other.read().tobytes()


def matched(schema: Schema, checkpoint: Mapping[str, TensorRef]) -> tuple[dict[str, TensorRef], list[str]]:
    """Return the tensor for each weight with an array of its own, where there is one, and the names not used.

    A copy under a tied weight's name stands in where the weight itself is not there.
    """
    found = sources(schema, checkpoint)
    names = {weight.name: list(found[weight.name]) for weight in schema.stored()}
    for weight in schema.values():
        if weight.tied_to is not None:
            names[weight.tied_to] += found[weight.name]
    taken = {name for group in found.values() for name in group}
    return {n: checkpoint[group[0]] for n, group in names.items() if group}, [n for n in checkpoint if n not in taken]


def is_suspicious(schema: Schema, tensors: int) -> bool:
    """Return whether a config asks for far more weights than the `tensors` of its files, or for more than fit into the
    memory of this machine."""
    memory = memory_of_the_machine()
    least = 2 * sum(math.prod(weight.shape) for weight in schema.stored())
    return len(schema) > 10_000 + 4 * tensors or (memory is not None and least > memory)


def plan_load(
    schema: Schema,
    checkpoint: Mapping[str, TensorRef],
    param_dtype: np.dtype | None,
    policy: Policy,
    source: str = "the checkpoint",
) -> LoadPlan:
    """Plan how `checkpoint` fills a model of `schema`.

    Args:
        param_dtype: dtype of the floating parameters; None follows the files. Integers, bool and float8 keep theirs.

    Raises:
        CheckpointError: a backbone weight is missing (or anything at all, under `strict`); every name is listed.
        ShapeMismatchError: a weight has another shape. InconsistentCheckpointError: copies of one weight differ.
        UnsupportedFormatError: weights are quantised, whatever the config says.
    """
    present, rest = matched(schema, checkpoint)
    missing = [w for w in schema.stored() if w.name not in present and not w.name.endswith(_COUNTER)]
    mismatched = [(n, ref.shape, schema[n].shape) for n, ref in present.items() if ref.shape != schema[n].shape]
    ignored = {name for name in rest if name in schema.ignorable or name.endswith(_COUNTER)}
    unexpected = [n for n in rest if n not in ignored and not _matches(n, policy.ignore_unexpected)]
    if policy.strict is not False:
        whole = {ref.name for name, ref in present.items() if schema[name].packed is None}
        _refuse_quantised(checkpoint, whole, {ref.name for ref in present.values()}, source)
        refuse_differing_copies(schema, checkpoint, source)
        refuse_missing(missing, policy, source)
    _refuse_parts(schema, present, mismatched, missing, source)
    _refuse_shapes(mismatched, policy, source)
    if policy.strict is True and unexpected:
        raise CheckpointError(
            f"{source} holds weights that the model has not.",
            expected=f"only the {len(schema)} weights of the model",
            received=", ".join(unexpected[:20]),
            remedy="load it with the class that saved it, or without strict=True",
        )
    wrong = {name for name, _, _ in mismatched}
    fitting = {n: ref for n, ref in present.items() if n not in wrong}
    copied = _sharing(fitting)
    assignments = tuple(
        Assignment(schema[n], ref, _dtype_in(schema[n], ref, param_dtype, policy), n in copied)
        for n, ref in fitting.items()
    )
    return LoadPlan(schema, assignments, tuple(missing), tuple(unexpected), tuple(mismatched), param_dtype, policy)


def _sharing(present: Mapping[str, TensorRef]) -> set[str]:
    """Return the weights to be copied so that no two have bytes in common: tensors of a torch file may be views of
    one storage. Of those that have, the first in the file stays a view, and the larger one of one place."""
    spans: dict[object, list[tuple[int, int, str]]] = {}
    for name, ref in present.items():
        file, start, end = ref.span or (ref.name, 0, max(ref.nbytes, 1))
        spans.setdefault(file, []).append((start, -end, name))
    copied = set()
    for group in spans.values():
        reached = 0
        for start, negative_end, name in sorted(group):
            if start < reached:
                copied.add(name)
            else:
                reached = -negative_end
    return copied


def _target_dtype(stored: np.dtype, wanted: np.dtype | None) -> np.dtype:
    return wanted if wanted is not None and stored in FLOATING else stored


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def refuse_differing_copies(schema: Schema, checkpoint: Mapping[str, TensorRef], source: str) -> None:
    """Raise `InconsistentCheckpointError` if `checkpoint` holds a weight of `schema` twice, with different values."""
    differing = [(w.name, w.tied_to) for w in differing_ties(schema, checkpoint) if w.untie_flag is None]
    found = [names for names in sources(schema, checkpoint).values() if names]
    own = {names[0] for names in found}
    differing += [
        (other, names[0])
        for names in found
        for other in names[1:]
        if other not in own and not _same(checkpoint[other], checkpoint[names[0]])
    ]
    if differing:
        raise InconsistentCheckpointError(
            f"{source} stores copies of one weight that differ.",
            expected="the same values under both names",
            received=", ".join(f"{one} unlike {other}" for one, other in differing),
            remedy="find out which is right and remove the other; strict=False takes the second",
        )


def _refuse_parts(
    schema: Schema, present: Mapping[str, TensorRef], mismatched: list[Mismatch], missing: list[Weight], source: str
) -> None:
    """Raise if a packed weight is not whole: nothing could stand in for its codes or scales."""
    wrong = [f"no {weight.name}" for weight in missing if weight.packed is not None]
    wrong += [f"{name} {stored}, not {here}" for name, stored, here in mismatched if schema[name].packed is not None]
    for name, ref in present.items():
        part = schema[name].packed
        if part is not None and ref.dtype != part.dtype and not (ref.dtype in FLOATING and part.dtype in FLOATING):
            wrong.append(f"{name} of {ref.dtype.name}, not {part.dtype.name}")
    if wrong:
        raise CheckpointError(
            f"{source} holds packed weights that are not as its config says.",
            expected="codes and scales of each, as config.quantization_config has them",
            received=", ".join(wrong[:6]),
            remedy="get the whole checkpoint, with the config.json that was saved with it",
        )


def _dtype_in(weight: Weight, ref: TensorRef, wanted: np.dtype | None, policy: Policy) -> np.dtype:
    if weight.packed is not None:
        return weight.packed.dtype
    return policy.widened(weight.name, _target_dtype(ref.dtype, wanted))


def _refuse_quantised(checkpoint: Mapping[str, TensorRef], weights: set[str], known: set[str], source: str) -> None:
    beside = {name: ref for name, ref in checkpoint.items() if name in weights or name not in known}
    found = stored_quantised(beside, weights)
    if found:
        raise UnsupportedFormatError(
            f"{source} stores quantised weights, with scales that the model has not.",
            expected="floating numbers",
            received=", ".join(f"{checkpoint[name].dtype.name} {name}" for name in found[:4]),
            remedy=REMEDY,
        )


def refuse_lost_heads(schema: Schema, untied: Sequence[str], class_name: str, source: str) -> None:
    """Raise `InconsistentCheckpointError` if the model has no place for weights `untied` that the checkpoint holds."""
    lost = [name for name in untied if name not in schema]
    if lost:
        raise InconsistentCheckpointError(
            f"{source} stores weights with values of their own, for which {class_name} always takes others.",
            expected="a class that has these weights where the config does not tie them",
            received=", ".join(lost),
            remedy="give the class such weights; strict=False leaves them out",
        )


def refuse_kept_ties(schema: Schema, checkpoint: Mapping[str, TensorRef], class_name: str, source: str) -> None:
    """Raise `InconsistentCheckpointError` if the checkpoint contradicts a tie that the config does not end."""
    still = [weight.name for weight in differing_ties(schema, checkpoint) if weight.untie_flag is not None]
    if still:
        raise InconsistentCheckpointError(
            f"{source} stores weights with values of their own that {class_name} always ties.",
            expected=f"a class that heeds config.{schema[still[0]].untie_flag}",
            received=", ".join(f"{name} unlike {schema[name].tied_to}" for name in still),
            remedy="tie them only if the config says so; strict=False takes the second",
        )


def refuse_missing(missing: Iterable[Weight], policy: Policy, source: str) -> None:
    """Raise `CheckpointError` if one of the `missing` weights is damage by `policy`."""
    damage = [w for w in missing if policy.strict or (w.backbone and (w.is_statistic or not w.buffer))]
    refused = [w.name for w in damage if not _matches(w.name, policy.ignore_missing)]
    if refused and not policy.allow_missing:
        raise CheckpointError(
            f"{source} lacks weights of the model.",
            expected="every weight of the backbone" if not policy.strict else "every weight (strict=True)",
            received=f"none for {len(refused)} of them: {', '.join(refused)}",
            remedy="get the whole checkpoint; strict=False would start these weights from random values",
        )


def _refuse_shapes(mismatched: list[Mismatch], policy: Policy, source: str) -> None:
    if mismatched and not policy.ignore_mismatched_sizes and policy.strict is not False:
        raise ShapeMismatchError(
            f"{source} holds weights of other shapes than the model.",
            expected=", ".join(f"{name} {model}" for name, _, model in mismatched),
            received=", ".join(f"{name} {stored}" for name, stored, _ in mismatched),
            remedy="make the config fit, or pass ignore_mismatched_sizes=True to start these from random values",
        )
