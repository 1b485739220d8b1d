"""Names in a checkpoint that the user, or the author of a class, wants read or written under others."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping
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
    transformers 4.50, a name and whether it is another."""
    fixed = fix(name)
    return str(fixed[0] if isinstance(fixed, tuple) else fixed)


def written(refs: list[TensorRef], cls: Any) -> list[TensorRef]:
    """Return `refs` under the names that `cls._fix_state_dict_key_on_save` gives."""
    return [dataclasses.replace(ref, name=fixed_key(cls._fix_state_dict_key_on_save, ref.name)) for ref in refs]
