"""Processes that save; in a module that these can import."""

from __future__ import annotations

import fcntl
import multiprocessing
from pathlib import Path

import numpy as np

from triptych import TensorRef, save_checkpoint
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
