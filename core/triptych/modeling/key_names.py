"""Names in a checkpoint that the user, or the author of a class, wants read or written under others."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from typing import Any

from triptych.checkpoints.opening import Checkpoint
from triptych.errors import ArgumentError, InconsistentCheckpointError
from triptych.tensors.ref import TensorRef


def renamed(
    checkpoint: Checkpoint,
    cls: Any,
    key_mapping: Mapping[str, str] | None,
    sources: Callable[[], Mapping[str, list[str]]],
) -> Checkpoint:
    """Return `checkpoint` under the names that `cls._fix_state_dict_key_on_load` gives, and then `key_mapping`.

    Args:
        key_mapping: regular expression -> replacement, as in `re.sub`; the first that is found in a name changes it.
            Without one, it is the class's `_checkpoint_conversion_mapping`, which leaves names that the model knows.
        sources: returns, for each weight of the model, the names in `checkpoint` that hold it already.

    Raises:
        ArgumentError: no regular expression. InconsistentCheckpointError: two tensors get one name.
    """
    mapping = cls._checkpoint_conversion_mapping if key_mapping is None else key_mapping
    if mapping is not None and not isinstance(mapping, Mapping):
        raise ArgumentError(
            f"{'_checkpoint_conversion_mapping' if key_mapping is None else 'key_mapping'} is no mapping.",
            expected="a dict: regular expression -> replacement",
            received=repr(mapping)[:80],
        )
    known = set(chain(*sources().values())) if mapping and key_mapping is None else set()
    names = {}
    for name in checkpoint:
        fixed = fixed_key(cls._fix_state_dict_key_on_load, name)
        names[name] = fixed if fixed in known else _substituted(fixed, mapping or {})
    if all(old == new for old, new in names.items()):
        return checkpoint
    counts = Counter(names.values())
    twice = [name for name in names if counts[names[name]] > 1]
    if twice:
        raise InconsistentCheckpointError(
            f"{checkpoint.source} has several tensors for one name, after their renaming.",
            expected="a name of its own for each",
            received=", ".join(f"{name} -> {names[name]}" for name in twice[:4]),
            remedy="change key_mapping, or the class's renaming",
        )
    refs = {new: dataclasses.replace(checkpoint[old], name=new) for old, new in names.items()}
    return Checkpoint(refs, checkpoint.metadata, checkpoint.source, checkpoint.flavour, checkpoint.files)


def _substituted(name: str, mapping: Mapping[str, str]) -> str:
    for pattern, replacement in mapping.items():
        try:
            new, count = re.subn(pattern, replacement, name)
        except (re.error, TypeError) as cause:
            raise ArgumentError(
                "key_mapping holds no regular expression.",
                expected="regular expression -> replacement",
                received=f"{pattern!r} -> {replacement!r}: {cause}",
            ) from cause
        if count:
            return new
    return name


def fixed_key(fix: Callable[[str], Any], name: str) -> str:
    """Return what a class's `_fix_state_dict_key_on_load` or `..._on_save` makes of `name`: a name or, as since
    transformers 4.50, a name and whether it is another.

    Raises:
        ArgumentError: it is neither.
    """
    fixed = fix(name)
    new = fixed[0] if isinstance(fixed, tuple) and fixed else fixed
    if not isinstance(new, str):
        raise ArgumentError(
            f"{getattr(fix, '__name__', 'The renaming')} returns no name for {name}.",
            expected="a name, or a name and whether it is another",
            received=repr(fixed)[:80],
        )
    return new


def stated(cls: Any, attribute: str, patterns: bool = False) -> tuple[str, ...]:
    """Return what the class, or the model, lists in `attribute`: names of weights or modules, or regular expressions
    for them, if they are `patterns`.

    Raises:
        ArgumentError: the attribute is no list of text, or one of it is no regular expression.
    """
    value = getattr(cls, attribute)
    if value is None:
        return ()
    is_list = isinstance(value, Collection) and not isinstance(value, (str, bytes))
    if not is_list or not all(isinstance(item, str) for item in value):
        raise ArgumentError(
            f"{attribute} is no list of text.",
            expected=f"a list of {'regular expressions' if patterns else 'names'}, or None",
            received=repr(value)[:80],
        )
    for item in value if patterns else ():
        try:
            re.compile(item)
        except re.error as cause:
            raise ArgumentError(
                f"{attribute} holds no regular expression.", expected="as re.search takes it",
                received=f"{item!r}: {cause}",
            ) from cause  # fmt: skip
    return tuple(value)


def written(refs: list[TensorRef], cls: Any) -> list[TensorRef]:
    """Return `refs` under the names that `cls._fix_state_dict_key_on_save` gives."""
    return [dataclasses.replace(ref, name=fixed_key(cls._fix_state_dict_key_on_save, ref.name)) for ref in refs]
