"""The models beside this file, under triptych and under transformers 4.48.3: files of each are read by the other.

    python examples/authors/show.py write FOLDER FRAMEWORK LIBRARY
    python examples/authors/show.py read FOLDER FRAMEWORK LIBRARY

FRAMEWORK is pt, tf or flax, LIBRARY triptych or transformers; README.md has the commands in order. For transformers
the word `triptych` in the import lines of the models' file becomes `transformers`, and nothing else changes. A reading
prints how far outputs are from those that the writer recorded; it exits with status 1 if one is farther than 1e-5 of
the output's scale, or if a weight was missing or left over.
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
LIBRARIES = ("triptych", "transformers")
NAMES = {"signal": "SignalEncoder", "recurrent": "RecurrentForCausalLM", "scoring": "BertForScoring"}
PREFIXES = {"pt": "", "tf": "TF", "flax": "Flax"}
FORMATS = {"native": False, "safetensors": True}
TOLERANCE = 1e-5
BERT: dict[str, Any] = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
                            intermediate_size=16, max_position_embeddings=16, num_labels=3)  # fmt: skip


def prepare_transformers(framework: str) -> None:
    """Let transformers 4.48 take this framework alone, as it is installed for triptych."""
    used = {"pt": "USE_TORCH", "tf": "USE_TF", "flax": "USE_FLAX"}
    os.environ |= {variable: str(int(name == framework)) for name, variable in used.items()}
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    if framework == "flax":
        import jax.numpy as jnp

        clip: Any = jnp.clip  # transformers calls its arguments by names that jax no longer has
        jnp.clip = lambda x, a_min=None, a_max=None, **new: clip(x, a_min, a_max, **new)


def models_of(framework: str, library: str) -> Any:
    """Return the module of the three models, its import lines made for `library`."""
    if library == "transformers":
        prepare_transformers(framework)
    text = (HERE / f"models_{framework}.py").read_text()
    text = re.sub(r"(?m)^from triptych(?=[. ])", f"from {library}", text)
    module = types.ModuleType(f"authors_models_{framework}")
    sys.modules[module.__name__] = module
    # The file beside this one, with other import lines: importlib would read it as it is on disk.
    exec(compile(text, f"models_{framework}.py", "exec"), vars(module))
    return module


def inputs_of(name: str) -> dict[str, np.ndarray]:
    """Return what the model `name` is called with."""
    rng = np.random.default_rng(0)
    if name == "signal":
        return {"values": rng.normal(size=(2, 6, 3)).astype(np.float32)}
    ids = {"input_ids": rng.integers(1, 19, (2, 5)).astype(np.int32)}
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    return ids | ({"attention_mask": mask} if name == "scoring" else {})


def new_model(framework: str, library: str, module: Any, name: str, backbone: Path) -> Any:
    """Return a new model; the one around a built-in backbone has that of `backbone`, which is written here."""
    cls = getattr(module, PREFIXES[framework] + NAMES[name])
    if name != "scoring":
        return cls({"signal": module.SignalConfig, "recurrent": module.RecurrentConfig}[name]())
    theirs = importlib.import_module(library)
    config = theirs.BertConfig(**BERT)
    trunk = getattr(theirs, f"{PREFIXES[framework]}BertModel")(config)
    if framework == "tf":
        trunk.build_in_name_scope()
    trunk.save_pretrained(backbone)
    return cls(config, backbone=str(backbone)) if framework == "pt" else cls.from_pretrained(backbone, num_labels=3)


def output(framework: str, model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return the first output of `model`."""
    if framework == "pt":
        import torch

        with torch.no_grad():
            result = model.eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    else:
        result = model(inputs) if framework == "tf" else model(**inputs)
    return np.asarray(result[0], np.float32)


def shuffle(framework: str, model: Any, inputs: dict[str, np.ndarray]) -> None:
    """Give buffers and statistics values that no constructor gives."""
    rng = np.random.default_rng(1)

    def values(shape: Any) -> np.ndarray:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    if framework == "pt":
        import torch

        for name, buffer in model.named_buffers():
            if buffer.is_floating_point() and ("running" in name or "shift" in name):
                buffer.copy_(torch.from_numpy(values(buffer.shape)))
    elif framework == "tf":
        model(inputs)
        for variable in model.non_trainable_weights:
            if len(variable.shape) == 1:
                variable.assign(values(variable.shape))
    elif "batch_stats" in model.params:
        import jax

        stats = jax.tree_util.tree_map(lambda leaf: values(leaf.shape), model.params["batch_stats"])
        model.params = {**model.params, "batch_stats": stats}


def write(folder: Path, framework: str, library: str, names: Iterable[str] = tuple(NAMES)) -> int:
    """Save each model in each format, and its output beside it; return 0."""
    module = models_of(framework, library)
    for name in names:
        place = folder / framework / library / name
        model = new_model(framework, library, module, name, place / "backbone")
        shuffle(framework, model, inputs_of(name))
        for format, safe in FORMATS.items():
            model.save_pretrained(place / format, safe_serialization=safe)
            np.save(place / format / "expected.npy", output(framework, model, inputs_of(name)))
        print(f"{library} wrote {name} ({framework})")
    return 0


def read(folder: Path, framework: str, library: str) -> int:
    """Load what each library has written and compare; return the exit status."""
    module, failed = models_of(framework, library), False
    for writer in LIBRARIES:
        for name, format in itertools.product(NAMES, FORMATS):
            place = folder / framework / writer / name / format
            if place.exists():
                cls = getattr(module, PREFIXES[framework] + NAMES[name])
                difference, left = compared(framework, library, cls, place, inputs_of(name))
                failed |= difference > TOLERANCE or bool(left)
                print(f"{library} read {name} ({framework}, {format}) of {writer}: {difference:.1e} {left or ''}")
    return int(failed)


def compared(
    framework: str, library: str, cls: Any, place: Path, inputs: dict[str, np.ndarray]
) -> tuple[float, dict[str, list[Any]]]:
    """Return how far the output is from the one recorded, in units of its scale, and what the load reports."""
    said: dict[str, Any] = {}
    if framework == "flax" and library == "transformers":  # which can report nothing
        model = cls.from_pretrained(place)
    else:
        model, said = cls.from_pretrained(place, output_loading_info=True)
    expected = np.load(place / "expected.npy")
    difference = np.abs(output(framework, model, inputs) - expected).max() / max(1.0, np.abs(expected).max())
    return float(difference), {key: kept for key, names in said.items() if (kept := [*filter(is_weight, names)])}


def is_weight(name: Any) -> bool:
    """Return whether a name in a report is that of a weight: in its own HDF5 files transformers finds Keras's dropouts,
    which have none."""
    return not re.fullmatch(r"dropout_\d+", str(name))


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] not in ("write", "read") or sys.argv[4] not in LIBRARIES:
        sys.exit(__doc__)
    chosen = write if sys.argv[1] == "write" else read
    sys.exit(chosen(Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
