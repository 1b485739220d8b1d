"""Writing one weight file in any format. The tensors have the names and layouts of the format's flavour already."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from triptych.checkpoints.legacy import MLM_HEAD, SHARED, variable_name
from triptych.formats.hdf5.file import TOP_LEVEL
from triptych.formats.kinds import BIN, H5, MSGPACK, SAVE_ID, Format
from triptych.formats.msgpack.file import write_msgpack
from triptych.formats.safetensors import write_safetensors
from triptych.formats.torch.writer import write_torch
from triptych.tensors.ref import TensorRef


def write_weights(
    file: BinaryIO, tensors: Sequence[TensorRef], format: Format, scope: str, save_id: str, alone: bool
) -> None:
    """Write `tensors` to `file`, which is empty and open for reading and writing, reading one at a time.

    Args:
        scope: that of the variables in TensorFlow's files; see `legacy.tf_scope`.
        alone: whether the file is the whole checkpoint, and not a shard: HDF5 is laid out differently then.

    Raises:
        SaveError, UnsupportedFormatError: names or dtypes that the format cannot hold. OSError: as the file raises.
    """
    metadata = {"format": format.flavour, SAVE_ID: save_id}
    if format is BIN:
        write_torch(file, tensors, {SAVE_ID: save_id})
    elif format is MSGPACK:
        write_msgpack(file, tensors)
    elif format is not H5:
        write_safetensors(file, tensors, metadata)
    else:
        # Here, since it imports libhdf5, which is needed for nothing else.
        from triptych.formats.hdf5.writer import DEFAULT_METADATA, write_hdf5, write_hdf5_shard

        if alone:
            write_hdf5(file, _layers(tensors, scope), DEFAULT_METADATA | {SAVE_ID: save_id})
        else:
            write_hdf5_shard(file, tensors, {SAVE_ID: save_id})


def name_in_index(name: str, format: Format, scope: str) -> str:
    """Return what the index calls the tensor `name` of a shard: TensorFlow's has the model's scope before it."""
    return variable_name(name, scope) if format.flavour == "tf" else name


def _layers(tensors: Iterable[TensorRef], scope: str) -> dict[str, list[TensorRef]]:
    """Return the groups of Keras's single file: the layers of the model, each with its weights under full names.

    A weight of several layers stands in the group of each: the embedding that T5's stacks share, and BERT's embeddings,
    which its head holds too.
    """
    layers: dict[str, list[TensorRef]] = {}
    embeddings = []
    for ref in tensors:
        first, _, below = ref.name.partition("/")
        full = dataclasses.replace(ref, name=variable_name(ref.name, scope))
        layers.setdefault(first if below else TOP_LEVEL, []).append(full)
        embeddings += [full] if below.startswith("embeddings/") else []
    if MLM_HEAD in layers:
        layers[MLM_HEAD] += embeddings
    shared = layers.get(SHARED, [])
    return {name: (shared if name in ("encoder", "decoder") else []) + refs for name, refs in layers.items()}
