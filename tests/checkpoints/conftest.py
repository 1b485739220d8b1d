"""What the tests of saving and of opening begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triptych import TensorRef, save_checkpoint


@pytest.fixture
def sharded(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "sharded"
    save_checkpoint(folder, [TensorRef.of(n, rng.standard_normal(256)) for n in "abc"], max_shard_size="2KB")
    assert len(list(folder.glob("*.safetensors"))) == 3
    return folder
