"""Processes that save; in a module that these can import."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np

from triptych import LoraConfig, TensorRef, save_checkpoint
from triptych.adapters.folder import write_adapter
from triptych.errors import TriptychError


def save_often(folder: Path, value: int, sizes: list[int], failures: multiprocessing.Queue) -> None:
    try:
        for size in sizes:
            refs = [TensorRef.of(f"t{i}", np.full(64, value + i, np.float64)) for i in range(8)]
            save_checkpoint(folder, refs, "{}\n", max_shard_size=size)
    except TriptychError as error:
        failures.put(repr(error))


def save_without_locks(folder: Path, value: int, sizes: list[int], failures: multiprocessing.Queue) -> None:
    fcntl.flock = lambda *_: None
    save_often(folder, value, sizes, failures)


def save_adapter(folder: Path, generation: int, safe: bool = True, rank: int | None = None) -> None:
    """Save an adapter whose rank, shape and values are of `generation`."""
    config = LoraConfig(r=rank or generation, target_modules=["query"], base_model_name_or_path="base")
    array = np.full((generation, 4), generation, np.float32)
    write_adapter(folder, config, {"layer.lora_A.weight": TensorRef.of("layer.lora_A.weight", array)}, safe)


def save_adapter_and_die(folder: Path, operation: int, safe: bool) -> None:
    """Save generation 2, and kill this process before a file operation of that number, if there are so many."""
    seen = [0]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "open"):
            seen[0] += str(folder) in str(arguments[0])
            if seen[0] == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    save_adapter(folder, 2, safe)
