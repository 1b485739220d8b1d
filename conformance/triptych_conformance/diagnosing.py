"""Where two runs of one model part, and why: the first part that departs, and what it points to.

Each guess is tried: what a part read is computed again with one thing changed (the kernel transposed, scale and shift
swapped, another epsilon, activation, mask or position, heads in another order), by NumPy, in float64. A guess holds if
that gives what the one side gave, and computing as declared what the other gave; so it is known which of them is right.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from triptych_conformance.gradients import compared_gradients
from triptych_conformance.running import Run
from triptych_conformance.tolerance import compare
from triptych_conformance.tracing import Part

Stored = Mapping[str, np.ndarray]
"""Weights by canonical name, in canonical layout, as a file holds them."""
Guess = tuple[str, np.ndarray]
"""What is tried, and what it gives."""
OUT_IN, IN_OUT = (f"the product with the weight as {axes}" for axes in ("[out, in]", "[in, out]"))
EPSILONS = (0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 2e-2)


@dataclass(frozen=True)
class Finding:
    """The first departure of a side from the reference.

    `place` is a part; `between` the part before it, where what `place` reads departs already, else None. `weights` are
    those that the part holds, and `points_to` says what was found, best first; empty where no guess held.
    """

    place: str
    between: str | None
    weights: tuple[str, ...]
    points_to: tuple[str, ...]

    def __str__(self) -> str:
        where = self.place if self.between is None else f"between {self.between} and {self.place}"
        return f"{where}: {'; '.join(self.points_to) or 'no guess held'}"


def find(reference: Run, other: Run, mask: np.ndarray | None, stored: Stored,
         config: Any = None) -> Finding | None:  # fmt: skip
    """Return the first departure, or None where no part departs.

    Args:
        mask: [B, Q], says which positions count.
        stored: what the file holds; read when it is asked for.
    """
    theirs = {part.name: part for part in other.parts}
    both = [(part, theirs[part.name]) for part in reference.parts if part.name in theirs]
    by_weight = _of_weights(other, stored) + _of_weights(reference, stored)
    for number, (ours, others) in enumerate(both):
        name = ours.name.partition("#")[0]
        held = tuple(w for w in (f"{name}.weight", f"{name}.bias") if w in stored)
        told = tuple(text for weight, text in by_weight if weight in held)
        if not _close(others.read, ours.read, mask):
            before = [pair[0] for pair in both[:number]]
            points_to = (
                told
                + tuple(_of_ids(other.side, ours.read, others.read))
                + tuple(
                    _sides(reference.side, other.side, ours.read, others.read, _between(before, mask, config), mask)
                )
            )
            return Finding(ours.name, before[-1].name if before else "the inputs", held, points_to)
        if not _close(others.gave, ours.gave, mask):
            guesses = _within(ours, name, stored, config)
            points_to = told + tuple(_sides(reference.side, other.side, ours.gave, others.gave, guesses, mask))
            return Finding(ours.name, None, held, points_to)
    apart = [name for name in reference.outputs if name in other.outputs
             and not _close(other.outputs[name], reference.outputs[name], mask)]  # fmt: skip
    if not apart and not by_weight:
        return None
    last = both[-1][0] if both else None
    told = tuple(f"{weight}: {text}" for weight, text in by_weight)
    if apart and not both:
        side = other.side if not other.parts else reference.side
        told += (f"{side} gives outputs alone, so that no part is known",)
    place = apart[0] if apart else by_weight[0][0]
    points_to = told
    if apart and last is not None:
        ours_out, others_out = reference.outputs[apart[0]], other.outputs[apart[0]]
        points_to += tuple(_sides(reference.side, other.side, ours_out, others_out,
                                  _between([pair[0] for pair in both], mask, config), mask))  # fmt: skip
    return Finding(place, last.name if last and apart else None, (), points_to)


def find_in_gradients(reference: Run, other: Run) -> Finding | None:
    """Return where gradients part first, seen from the loss: of the part called last, whose gradient departs; or None
    where none does."""
    if reference.gradients is None or other.gradients is None:
        return None
    compared = compared_gradients(other.gradients, reference.gradients)
    apart = [name for name, comparison in compared.items() if not comparison.fraction <= 1]
    if not apart:
        return None
    calls = {part.name.partition("#")[0]: number for number, part in enumerate(reference.parts)}
    last = max(apart, key=lambda name: calls.get(name.rpartition(".")[0], -1))
    ours, theirs = reference.gradients.get(last), other.gradients.get(last)
    told = _of_gradient(reference.side, other.side, ours, theirs)
    some = f"{len(apart)} of {len(compared)} gradients depart"
    return Finding(last.rpartition(".")[0] or last, None, (last,), (some, *told))


def _of_gradient(reference: str, other: str, ours: np.ndarray | None, theirs: np.ndarray | None) -> Iterator[str]:
    """Yield what became of a gradient."""
    if ours is None or theirs is None:
        yield f"{other if theirs is None else reference} has no such parameter, or does not train it"
        return
    if ours.shape != theirs.shape:
        yield f"{other} has it in another shape, {theirs.shape} for {ours.shape}"
        return
    for side, own, others in ((other, theirs, ours), (reference, ours, theirs)):
        if not own.any() and others.any():
            yield f"in {side} it is zero: nothing comes back to it"
            return
    scale = float((ours * theirs).sum() / np.square(ours).sum()) if ours.any() else 0.0
    if scale and compare(theirs / scale, ours).fraction <= 1 and abs(scale - 1) > 1e-3:
        yield f"{other} has it times {scale:.4g}"


def fitting(mask: np.ndarray | None, array: np.ndarray) -> np.ndarray | None:
    """Return the mask where `array` has its positions; of what a decoder reads none is masked."""
    if mask is None or array.ndim < 2:
        return None
    shapes = (array.shape[:2], (array.shape[0], array.shape[2])) if array.ndim == 4 else (array.shape[:2],)
    return mask if mask.shape in shapes else None


def _close(found: np.ndarray, reference: np.ndarray, mask: np.ndarray | None) -> bool:
    if found.shape != reference.shape:  # ids of positions may be those of one row, for all
        try:
            found, reference = np.broadcast_arrays(found, reference)
        except ValueError:
            return False
    return compare(found, reference, fitting(mask, reference)).fraction <= 1


def _sides(reference: str, other: str, ours: np.ndarray, theirs: np.ndarray, guesses: Iterator[Guess],
           mask: np.ndarray | None) -> Iterator[str]:  # fmt: skip
    """Yield what each side is seen to compute: of the guesses that hold the nearest one."""
    found: dict[str, tuple[float, str]] = {}
    for text, value in guesses:
        for side, array in ((reference, ours), (other, theirs)):
            if value.shape != array.shape:
                continue
            fraction = compare(value, array, fitting(mask, array)).fraction
            if fraction <= min(1.0, found.get(side, (1.0, ""))[0] * 0.999):
                found[side] = fraction, text
    if len(found) == 2 and found[reference][1] == found[other][1]:
        return  # the two are as near to one guess as the rule can tell
    if {text for _, text in found.values()} == {OUT_IN, IN_OUT}:
        yield "the kernel of one is transposed"
    if len(found) < 2:
        yield from _of_values(reference, other, ours, theirs)
    for side in (reference, other):
        if side in found:
            yield f"{side} computes {found[side][1]}"
        elif found:
            yield f"{side} computes something else"


def _of_values(reference: str, other: str, ours: np.ndarray, theirs: np.ndarray) -> Iterator[str]:
    """Yield what the values of a side show, whatever computed them: the precision that they have, and dropout."""
    if ours.shape != theirs.shape or not ours.dtype.kind == theirs.dtype.kind == "f":
        return
    for side, one, another in ((reference, ours, theirs), (other, theirs, ours)):
        for dtype in (ml_dtypes.bfloat16, np.float16):
            if _fits(one, dtype) and not _fits(another, dtype):
                yield f"{side} computes in {np.dtype(dtype).name}"
        kept = one != 0
        with np.errstate(divide="ignore", invalid="ignore"):
            scales = (one / another)[kept & (another != 0)]
        if 0.01 < (~kept & (another != 0)).mean() < 0.99 and scales.size and np.ptp(scales) < 1e-3 < scales[0] - 1:
            yield f"{side} drops {1 - 1 / scales[0]:.0%} of the values"


def _fits(array: np.ndarray, dtype: Any) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(array.astype(dtype).astype(array.dtype), array))


def _of_ids(side: str, ours: np.ndarray, theirs: np.ndarray) -> Iterator[str]:
    """Yield what became of ids that a part reads."""
    if ours.dtype.kind != "i" or theirs.dtype.kind != "i":
        return
    with contextlib.suppress(ValueError):  # shapes that do not fit have no shift
        shifts = np.unique(theirs - ours)
        if len(shifts) == 1:
            yield f"{side} reads ids that are {shifts[0]:+d} off"


# -- weights --------------------------------------------------------------------------------------------------------


def _of_weights(run: Run, file: Stored) -> list[tuple[str, str]]:
    """Return (weight, what became of it) for the weights of a run that are not the file's."""
    return [(name, f"{run.side} holds it {_became(name, array, file)}") for name, array in run.departed.items()]


def _became(name: str, found: np.ndarray, file: Stored) -> str:
    if name not in file:
        return "though the file does not"
    stored = file[name]
    partner = name.removesuffix("weight") + "bias" if name.endswith("weight") else name.removesuffix("bias") + "weight"
    other = file.get(partner)
    for text, value in _rearranged(stored):
        if value.shape == found.shape and np.array_equal(value, found):
            return text
    if other is not None and other.shape == found.shape and np.array_equal(other, found):
        return f"with the values of {partner}: scale and shift are swapped"
    return "with other values: initialised anew, untied, or changed after the load"


def _rearranged(stored: np.ndarray) -> Iterator[Guess]:
    if stored.ndim == 2:
        yield "transposed", stored.T
    yield "with its sign changed", -stored
    for axis, shift in itertools.product(range(stored.ndim), (1, -1, 2, -2)):
        yield f"shifted by {shift} along axis {axis}", np.roll(stored, shift, axis)
    for axis in range(stored.ndim):
        yield f"in reverse order along axis {axis}", np.flip(stored, axis)
        for heads in (n for n in range(2, min(stored.shape[axis], 129)) if stored.shape[axis] % n == 0):
            for text, order in _orders(heads):
                yield f"with its {heads} heads {text}, along axis {axis}", _permuted(stored, axis, heads, order)


def _orders(heads: int) -> Iterator[tuple[str, list[int]]]:
    for shift in (1, heads - 1):
        yield f"shifted by {shift}", [*range(shift, heads), *range(shift)]
    yield "reversed", [*reversed(range(heads))]
    yield "swapped, the first with the second", [1, 0, *range(2, heads)]


def _permuted(array: np.ndarray, axis: int, heads: int, order: list[int]) -> np.ndarray:
    return np.concatenate([np.split(array, heads, axis)[place] for place in order], axis)


# -- within a part --------------------------------------------------------------------------------------------------


def _within(part: Part, name: str, file: Stored, config: Any) -> Iterator[Guess]:
    """Yield ways in which a part may compute what it gave from what it read; the first is as declared."""
    x = part.read
    if f"{name}.weight" not in file:
        yield from _ties(x, part.gave.shape[-1], name, file)
        return
    weight, bias = file[f"{name}.weight"], file.get(f"{name}.bias")
    weight = weight.astype(np.float64)
    if weight.ndim == 1:
        yield from _norms(x.astype(np.float64), weight, bias, config)
    elif part.read.dtype.kind == "i":
        yield from _lookups(x, weight)
    elif weight.ndim == 2:
        yield from _products(x.astype(np.float64), weight, bias, part.gave.shape[-1])


def _ties(x: np.ndarray, width: int, name: str, file: Stored) -> Iterator[Guess]:
    """Yield products with the weights of others: those that the part may be tied to."""
    if x.dtype.kind == "i":
        return
    biases = [one for one in file if one.endswith("bias") and one.split(".")[0] == name.split(".")[0]]
    for other in (one for one in file if "embed" in one or "wte" in one or one.startswith("shared")):
        if file[other].shape == (width, x.shape[-1]):
            product = x.astype(np.float64) @ file[other].astype(np.float64).T
            yield f"the product with {other}, tied", product
            for bias in biases:
                if file[bias].shape == (width,):
                    yield f"the product with {other}, tied, and {bias}", product + file[bias]


def _lookups(ids: np.ndarray, table: np.ndarray) -> Iterator[Guess]:
    for text, shift in (("rows by ids", 0), ("rows one too far", 1), ("rows one too near", -1),
                        ("rows two too far", 2), ("rows two too near", -2)):  # fmt: skip
        yield text, table[np.clip(ids + shift, 0, len(table) - 1)]
    yield "rows times the root of their width", table[np.clip(ids, 0, len(table) - 1)] * math.sqrt(table.shape[1])


def _products(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, width: int) -> Iterator[Guess]:
    shift = 0.0 if bias is None else bias.astype(np.float64)
    linear, conv1d = weight.shape[::-1] == (x.shape[-1], width), weight.shape == (x.shape[-1], width)
    if linear:
        yield OUT_IN, x @ weight.T + shift
    if conv1d:
        yield IN_OUT, x @ weight + shift
    if bias is not None:
        for text, product in ((("[out, in]", x @ weight.T),) if linear else ()) + (
            (("[in, out]", x @ weight),) if conv1d else ()
        ):
            yield f"the product as {text} without the bias", product
            yield f"the product as {text} minus the bias", product - shift


def _norms(x: np.ndarray, scale: np.ndarray, shift: np.ndarray | None, config: Any) -> Iterator[Guess]:
    own = [value for key in ("layer_norm_eps", "rms_norm_eps", "layer_norm_epsilon", "norm_eps")
           if isinstance(value := getattr(config, key, None), float)]  # fmt: skip
    none = np.zeros_like(scale)
    shift_or_none = none if shift is None else shift.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)

    def normed(values: np.ndarray, epsilon: float) -> np.ndarray:
        return values / np.sqrt(np.square(values).mean(-1, keepdims=True) + epsilon)

    for epsilon in dict.fromkeys((*own, *EPSILONS)):
        for kind, values in (("LayerNorm", centred), ("RMSNorm", x)):
            unit = normed(values, epsilon)
            yield f"{kind} with epsilon {epsilon:g}", unit * scale + shift_or_none
            yield f"{kind} with epsilon {epsilon:g} and a scale of 1 + weight", unit * (1 + scale) + shift_or_none
            if shift is not None:
                yield f"{kind} with epsilon {epsilon:g}, scale and shift swapped", unit * shift_or_none + scale
                yield f"{kind} with epsilon {epsilon:g} without its shift", unit * scale


# -- between parts --------------------------------------------------------------------------------------------------


def _between(before: list[Part], mask: np.ndarray | None, config: Any) -> Iterator[Guess]:
    """Yield what may have been computed from what the parts before gave: activations, residuals, attention."""
    if not before:
        return
    last = before[-1]
    last_gave = last.gave.astype(np.float64)
    yield "nothing in between", last_gave
    for name, function in ACTIVATIONS.items():
        yield f"the activation {name}", function(last_gave)
    if len(before) > 1:  # a gate, and what it lets through
        gate = before[-2].gave.astype(np.float64)
        if gate.shape == last_gave.shape:
            for name, function in ACTIVATIONS.items():
                yield f"the activation {name} of {before[-2].name} as a gate", function(gate) * last_gave
                yield f"the activation {name} of {last.name} as a gate", gate * function(last_gave)
    for earlier in reversed(before[:-1]):
        for text, array in ((f"what {earlier.name} read", earlier.read), (f"what {earlier.name} gave", earlier.gave)):
            if array.shape == last_gave.shape and array.dtype.kind == "f":
                yield f"the sum with {text}", last_gave + array
    yield from _attentions(before, mask, config)


def _attentions(before: list[Part], mask: np.ndarray | None, config: Any) -> Iterator[Guess]:
    """Yield attention over the last query, key and value, or over the three in one, as declared and otherwise."""
    heads = next((value for key in ("num_attention_heads", "n_head", "num_heads")
                  if isinstance(value := getattr(config, key, None), int)), None)  # fmt: skip
    if heads is None or before[-1].gave.ndim != 3:
        return
    if before[-1].name.endswith("c_attn"):
        query, key, value = np.split(before[-1].gave.astype(np.float64), 3, -1)
    elif len(before) >= 3:
        query, key, value = (part.gave.astype(np.float64) for part in before[-3:])
    else:
        return
    if query.ndim != 3 or query.shape[-1] % heads or key.ndim != 3 or key.shape[:2] != value.shape[:2]:
        return
    size = query.shape[-1] // heads
    if key.shape[-1] % size or value.shape != key.shape:
        return
    groups = heads // max(key.shape[-1] // size, 1)
    q, k, v = (_by_head(array, size) for array in (query, key, value))
    k, v = np.repeat(k, groups, 1), np.repeat(v, groups, 1)
    scores = q @ k.swapaxes(-1, -2)
    causal = np.tril(np.ones(scores.shape[-2:], bool), k.shape[2] - q.shape[2])
    seen = None if mask is None or mask.shape != k.shape[:1] + k.shape[2:3] else mask[:, None, None, :].astype(bool)
    masks: dict[str, Any] = {
        "a mask of padding": seen,
        "a causal mask and one of padding": causal if seen is None else causal & seen,
        "a causal mask alone, that of padding is missing": causal,
        "no mask at all": np.ones_like(causal),
        "a causal mask that lets one more position through": np.tril(np.ones_like(causal), 1),
    }
    for scale_text, scale in (("", size**-0.5), (" and without a scale", 1.0)):
        for text, where in masks.items():
            if where is None:
                continue
            context = _softmax(np.where(where, scores * scale, -1e30)) @ v
            yield f"attention with {text}{scale_text}", _joined(context)
            for order_text, order in _orders(heads) if heads > 1 else ():
                yield f"attention with {text}{scale_text}, its heads {order_text}", _joined(context[:, order])


def _by_head(array: np.ndarray, size: int) -> np.ndarray:
    return array.reshape(*array.shape[:2], -1, size).swapaxes(1, 2)


def _joined(context: np.ndarray) -> np.ndarray:
    return context.swapaxes(1, 2).reshape(context.shape[0], context.shape[2], -1)


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))


def _gelu_new(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_new,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * _sigmoid(x),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu2": lambda x: np.square(np.maximum(x, 0)),
}
