"""The tensors of a checkpoint under canonical names and in canonical layouts, whichever framework wrote it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from triptych.checkpoints.legacy import FLAVOURS, LegacyWeight, canonical_refs, legacy_weights, readable
from triptych.checkpoints.opening import Checkpoint
from triptych.errors import UnsupportedFormatError
from triptych.formats.kinds import SAFETENSORS, Format
from triptych.tensors.ref import TensorRef
from triptych.weights.plan import sources
from triptych.weights.schema import Schema


def canonical(checkpoint: Checkpoint, schema: Schema) -> Checkpoint:
    """Return `checkpoint` under the names by which a model of `schema` knows its weights; reading one converts it.

    Names that the schema does not know stay as they are, to be reported as unexpected.

    Raises:
        InconsistentCheckpointError: two tensors for one weight, or names of another framework than the files say.
        ShapeMismatchError: a tensor has another number of axes than its layer.
    """
    flavour = checkpoint.flavour or flavour_by_names(checkpoint, schema)
    if flavour == "pt":
        return checkpoint
    refs = canonical_refs(checkpoint, schema, flavour)
    return Checkpoint(refs, checkpoint.metadata, checkpoint.source, "pt", checkpoint.files)


def flavour_by_names(checkpoint: Mapping[str, TensorRef], schema: Schema) -> str:
    """Return by whose rules most names of `checkpoint` are weights of `schema`: "pt" goes before "tf" and "flax"."""
    counts = {"pt": sum(map(len, sources(schema, checkpoint).values()))}
    for flavour in FLAVOURS:
        known = readable(schema, flavour)
        counts[flavour] = sum(name in known for name in checkpoint)
    return max(counts, key=lambda flavour: counts[flavour])


def stored(
    refs: Iterable[TensorRef], schema: Schema, format: Format, own: Mapping[str, LegacyWeight] | None = None
) -> list[TensorRef]:
    """Return canonical `refs` under the names and in the layouts in which files of `format` hold them.

    `own` says it, by canonical name, for weights of which the schema does not say it rightly.

    Raises:
        UnsupportedFormatError: the format has other names than PyTorch, and the schema does not know a tensor.
        ShapeMismatchError: a tensor has another shape than in the schema.
    """
    if format.flavour == "pt":
        return list(refs)
    weights = legacy_weights(schema, format.flavour) | dict(own or {})
    dotted = format.flavour == "flax" and format.suffix == SAFETENSORS.suffix
    result = []
    for ref in refs:
        if ref.name not in weights:
            raise _without_rule(ref.name, format)
        weight = weights[ref.name]
        new = weight.stored_ref(ref)
        result.append(dataclasses.replace(new, name=weight.dotted_name) if dotted else new)
    return result


def _without_rule(name: str, format: Format) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"How {format.name} files store {name!r} is not known.",
        expected="a weight of the model's schema",
        received="a tensor beside it",
        remedy="leave it out (--drop), or save as safetensors",
    )
