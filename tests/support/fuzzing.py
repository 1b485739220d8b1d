"""Every reader of files, with right files to start from, and what a wrong one of them must come to.

A file is read, with the values that the format's own library finds in it, or refused with a `TriptychError`, within
`SECONDS` and without more than `BYTES` of memory. Anything else is a `Finding`.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mutations import Mutation, mutated, of_json, of_msgpack, of_safetensors, of_zip
from places import GOLDEN
from triptych import AutoConfig, GenerationConfig, TensorRef, TriptychError, open_checkpoint, save_checkpoint
from triptych.adapters.config import LoraConfig
from triptych.formats.kinds import FORMATS
from triptych.tools import editing

SECONDS = 10
BYTES = 4 * 2**30
"""Address space beyond what the process has; a file that is mapped counts."""
KEPT = ("classifier.weight", "classifier.bias", "bert.pooler.dense.bias", "bert.embeddings.LayerNorm.weight",
        "bert.encoder.layer.0.attention.self.query.bias")  # fmt: skip
"""The weights of the right files: few, so that changes meet what the formats say and not numbers."""


class Finding(AssertionError):
    """A wrong file did what it must not."""


@dataclass(frozen=True)
class Reader:
    """A reader of files called `name`.

    `read` returns what a folder with the file holds: arrays, or plain values. `meaning` changes what a file says;
    `witness` reads the same file by another library, or raises whatever it does.
    """

    name: str
    file: str
    read: Callable[[Path], Mapping[str, Any]]
    seed: Callable[[Path], bytes]
    meaning: Mutation | None = None
    witness: Callable[[Path], Mapping[str, Any]] | None = None

    @property
    def right(self) -> bytes:
        """A file as it should be."""
        return _seed(self)

    def mutate(self, rng: random.Random) -> bytes:
        return mutated(self.right, self.meaning, rng)

    def examine(self, data: bytes, folder: Path) -> str:
        """Return "read", or the name of the error by which the file was refused.

        Args:
            folder: where to write the file, with nothing else that the reader reads.

        Raises:
            Finding: another exception, too much time or memory, or other values than the witness finds.
        """
        path = folder / self.file
        path.write_bytes(data)
        try:
            with _in_time(), _in_memory(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = dict(self.read(folder))
        except TriptychError as error:
            return type(error).__name__
        except Exception as error:
            raise Finding(f"{self.name}: {type(error).__name__}: {str(error)[:300]}") from error
        if self.witness is not None:
            _compare(self, found, path)
        return "read"


def _compare(reader: Reader, found: Mapping[str, Any], path: Path) -> None:
    assert reader.witness is not None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = reader.witness(path)
    except Exception:  # it refuses the file: whatever it raises says nothing of ours
        return
    for name in found.keys() & expected.keys():
        one, other = np.asarray(found[name]), np.asarray(expected[name])
        if one.shape != other.shape or one.tobytes() != other.tobytes():
            raise Finding(f"{reader.name}: {name!r} has other values than the format's library finds")


class _TooLongError(BaseException):
    """Not an Exception: nothing on its way may take it for a failure of its own."""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    except _TooLongError as error:
        raise Finding(f"not done within {SECONDS} s") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    """Let the process have `BYTES` more, so that a larger array is a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# -- readers -----------------------------------------------------------------------------------------------------------


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(ref.read()) for name, ref in open_checkpoint(folder).items()}


def _few(folder: Path) -> editing.Draft:
    refs = [TensorRef.of(name, np.array(ref.read()))
            for name, ref in open_checkpoint(GOLDEN / "bert-cls/pt-safetensors").items() if name in KEPT]  # fmt: skip
    save_checkpoint(folder / "few", refs, (GOLDEN / "bert-cls/pt-safetensors/config.json").read_text())
    return editing.open_draft(folder / "few")


def _of_format(name: str, size: int | str = "5GB") -> Callable[[Path], bytes]:
    def seed(folder: Path) -> bytes:
        files = editing.write(_few(folder), folder / "right", FORMATS[name], max_shard_size=size)
        return files[-1].read_bytes()

    return seed


def _of_gguf(folder: Path) -> bytes:
    import gguf

    path = folder / "right.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    sizes = {"embedding_length": 8, "block_count": 1, "feed_forward_length": 8, "context_length": 8}
    for key, value in {**sizes, "attention.head_count": 2, "rope.dimension_count": 4}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c", "d"])
    square = np.arange(64, dtype=np.float32).reshape(8, 8)
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    for name in names:
        writer.add_tensor(f"blk.0.{name}.weight", square)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(8, np.float32))
    writer.add_tensor("token_embd.weight", square[:4])
    writer.add_tensor("output.weight", square[:4].astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def _read_gguf(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(ref.read()) for name, ref in open_checkpoint(folder / "model.gguf").items()}


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    """Read a sharded checkpoint whose index alone is wrong; the shards are made once."""
    if not list(folder.glob("*-of-*")):
        editing.write(_few(folder), folder, FORMATS["safetensors"], max_shard_size=200)
    return _arrays(folder)


def _golden(name: str) -> Callable[[Path], bytes]:
    return lambda folder: (GOLDEN / name).read_bytes()


def _witness_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.numpy import load_file

    return load_file(path)


def _witness_torch(path: Path) -> Mapping[str, Any]:
    import torch

    state = torch.load(path, weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def _witness_msgpack(path: Path) -> Mapping[str, Any]:
    from flax.serialization import msgpack_restore
    from flax.traverse_util import flatten_dict

    return flatten_dict(msgpack_restore(path.read_bytes()), sep="/")


def _witness_hdf5(path: Path) -> Mapping[str, Any]:
    import h5py

    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def _adapter(folder: Path) -> bytes:
    return json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["query", "value"],
                       "bias": "none", "modules_to_save": ["classifier"], "layers_to_transform": [0, 1],
                       "rank_pattern": {"query": 4}, "base_model_name_or_path": "x"}).encode()  # fmt: skip


def _generation(folder: Path) -> bytes:
    return json.dumps({"max_new_tokens": 5, "eos_token_id": [1, 2], "num_beams": 2, "temperature": 0.5, "top_k": 3,
                       "suppress_tokens": [4], "bad_words_ids": [[5]], "do_sample": True}).encode()  # fmt: skip


READERS = {
    reader.name: reader
    for reader in (
        Reader("safetensors", "model.safetensors", _arrays, _of_format("safetensors"), of_safetensors,
               _witness_safetensors),
        Reader("torch", "pytorch_model.bin", _arrays, _of_format("bin"), of_zip, _witness_torch),
        Reader("hdf5", "tf_model.h5", _arrays, _of_format("h5"), None, _witness_hdf5),
        Reader("msgpack", "flax_model.msgpack", _arrays, _of_format("msgpack"), of_msgpack, _witness_msgpack),
        Reader("gguf", "model.gguf", _read_gguf, _of_gguf),
        Reader("index", "model.safetensors.index.json", _read_shards, _of_format("safetensors", 200), of_json),
        Reader("config", "config.json", lambda folder: AutoConfig.from_pretrained(folder).to_dict(),
               _golden("t5-tied/pt-safetensors/config.json"), of_json),
        Reader("generation config", "generation_config.json",
               lambda folder: GenerationConfig.from_pretrained(folder).to_dict(), _generation, of_json),
        Reader("adapter config", "adapter_config.json", lambda folder: LoraConfig.read(folder).to_dict(), _adapter,
               of_json),
    )
}  # fmt: skip


@cache
def _seed(reader: Reader) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return reader.seed(Path(folder))
