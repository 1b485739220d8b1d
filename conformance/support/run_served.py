"""A process that runs what a framework exported, and has no triptych: python run_served.py pt|tf|flax FOLDER.

Runs each model of FOLDER, which is where `file_of` says, on `<name>.<number>.inputs.npz`, and writes
`<name>.<number>.<framework>.npz`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_KEPT: list[Any] = []
"""What TensorFlow has loaded, whose functions outlive it not."""


def file_of(folder: Path, name: str, framework: str) -> Path:
    """Return where the model `name` is that a framework exported."""
    return folder / f"{name}.{'pt2' if framework == 'pt' else framework}"


def of_pytorch(file: Path) -> Callable[[dict[str, np.ndarray]], Any]:
    import torch

    run = torch.export.load(file).module()
    return lambda inputs: run(**{name: torch.tensor(x, dtype=torch.int64) for name, x in inputs.items()})


def of_tensorflow(file: Path) -> Callable[[dict[str, np.ndarray]], Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(file)
    _KEPT.append(loaded)
    given = lambda inputs: {name: tf.constant(x, tf.int32) for name, x in inputs.items()}  # noqa: E731
    if hasattr(loaded, "serve"):
        return lambda inputs: loaded.serve(given(inputs))
    return lambda inputs: loaded.signatures["serving_default"](**given(inputs))


def of_jax(file: Path) -> Callable[[dict[str, np.ndarray]], Any]:
    from jax import export

    return export.deserialize(bytearray(file.read_bytes())).call  # type: ignore[no-any-return]


def main(framework: str, folder: Path) -> None:
    sys.modules["triptych"] = None  # type: ignore[assignment]  # an import of it fails
    load = {"pt": of_pytorch, "tf": of_tensorflow, "flax": of_jax}[framework]
    models: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {}
    for file in sorted(folder.glob("*.inputs.npz")):
        name = file.name.partition(".")[0]
        if name not in models:
            models[name] = load(file_of(folder, name, framework))
        with np.load(file) as given:
            outputs = models[name]({key: x.astype(np.int32) for key, x in given.items()})
        assert type(outputs) is dict, type(outputs)
        found = {key: np.asarray(x.detach() if framework == "pt" else x) for key, x in outputs.items()}
        np.savez(folder / file.name.replace("inputs", framework), **found)  # type: ignore[arg-type]
    ours = [name for name, module in sys.modules.items() if name.startswith("triptych") and module is not None]
    assert not ours, ours


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
