"""The values of a config's fields: checks for `PretrainedConfig.checks`, each of which says in its docstring what it
expects, and what is read from values that files and users write in several ways."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping
from typing import Any

from triptych.errors import ConfigError

_SCALARS = (str, int, float, type(None))


def positive_int(value: Any) -> bool:
    """a positive integer below 2^31"""
    return type(value) is int and 0 < value < 2**31


def boolean(value: Any) -> bool:
    """true or false"""
    return isinstance(value, bool)


def natural(value: Any) -> bool:
    """an integer from 0, below 2^31"""
    return type(value) is int and 0 <= value < 2**31


def optional_positive_int(value: Any) -> bool:
    """a positive integer below 2^31, or None"""
    return value is None or positive_int(value)


def probability(value: Any) -> bool:
    """a number from 0 to 1"""
    return type(value) in (int, float) and 0 <= value <= 1


def positive_number(value: Any) -> bool:
    """a positive number that a float can hold"""
    return type(value) in (int, float) and 0 < value <= sys.float_info.max


def part_count(value: Any) -> bool:
    """an integer from 1 to 10,000"""
    return type(value) is int and 0 < value <= 10_000


def parse_labels(id2label: Any, label2id: Any) -> tuple[dict[int, Any], dict[Any, Any]]:
    """Return both mappings, the first with integer keys; the second follows from it where it is not given."""
    for name, labels in (("id2label", id2label), ("label2id", label2id or {})):
        if not isinstance(labels, Mapping):
            raise ConfigError(f"`{name}` is no mapping.", received=repr(labels)[:80])
        if not all(isinstance(label, _SCALARS) for label in labels.values()):
            raise ConfigError(f"`{name}` maps to what is no text or number.", received=repr(labels)[:80])
    try:
        names = {int(number): label for number, label in id2label.items()}
    except (TypeError, ValueError) as cause:
        raise ConfigError("`id2label` has a key that is no number.", received=repr(id2label)[:80]) from cause
    return names, dict(label2id) if label2id else {label: number for number, label in names.items()}


def number_of_layer(layer: int, count: int | None) -> int | None:
    """Return the number from 0 of `layer` among `count`, negative ones counted from the end; None if not there."""
    if count is None:
        return layer if layer >= 0 else None
    return layer % count if -count <= layer < count else None


def layers_and_heads(value: Any) -> list[tuple[int, set[int]]]:
    def whole(number: Any) -> int:
        return int(number) if isinstance(number, str) else operator.index(number)

    try:
        pairs = dict(value or {}).items()
        if any(isinstance(heads, (str, Mapping)) for _, heads in pairs):
            raise TypeError("no list of heads")
        return [(whole(layer), {whole(head) for head in heads}) for layer, heads in pairs]
    except (TypeError, ValueError) as cause:
        raise ConfigError(
            "`pruned_heads` is impossible.", expected="layer -> list of heads", received=repr(value)[:80]
        ) from cause


def parse_as(text: str, old: Any, name: str) -> Any:
    try:
        if isinstance(old, bool):
            yes, no = ("true", "1", "y", "yes"), ("false", "0", "n", "no")
            return {**dict.fromkeys(yes, True), **dict.fromkeys(no, False)}[text.lower()]
        return type(old)(text)
    except (KeyError, ValueError, TypeError) as cause:
        raise ConfigError(f"`{name}` cannot be {text!r}.", expected=f"a {type(old).__name__}") from cause


def dtype_name(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value.removeprefix("torch.") if value else None
    name = getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)
    return str(name).removeprefix("torch.")
