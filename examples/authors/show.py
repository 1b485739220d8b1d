"""The models beside this file, under triptych and under transformers 4.48.3: files of each are read by the other.

    python examples/authors/show.py write FOLDER pt triptych         # in triptych's environment
    python examples/authors/show.py read  FOLDER pt transformers     # in one with transformers 4.48.3
    python examples/authors/show.py write FOLDER pt transformers
    python examples/authors/show.py read  FOLDER pt triptych

and the same for `tf` and `flax`. Under transformers the word `triptych` in the import lines of the models' file becomes
`transformers`; nothing else changes. For `tf` and `flax` put transformers 4.48.3, tokenizers 0.21, huggingface_hub 0.30
and tf_keras 2.21 (`pip install --no-deps --target`) before triptych's own environment on PYTHONPATH. Each reading prints
the largest difference to the outputs that the writer recorded; it exits with status 1 if one is above 1e-5 of the
output's scale, or if a weight was missing or left over.
"""

import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FORMATS = {
    "pt": ({"safe_serialization": True}, {"safe_serialization": False}),
    "tf": ({"safe_serialization": False},),
    "flax": ({"safe_serialization": False},),
}
TOLERANCE = 1e-5
BERT = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=16,
            max_position_embeddings=16, num_labels=3)  # fmt: skip


def models_of(framework: str, library: str) -> Any:
    """Return the module of the three models, its import lines made for `library`."""
    if framework != "pt" and library == "transformers":
        os.environ |= {"USE_TORCH": "0", "TF_USE_LEGACY_KERAS": "1"}
    os.environ |= {"USE_TF": str(int(framework == "tf")), "USE_FLAX": str(int(framework == "flax"))}
    if framework == "flax":
        import jax.numpy as jnp

        clip = jnp.clip  # transformers 4.48 calls it by names that jax no longer has
        jnp.clip = lambda x, a_min=None, a_max=None, **new: clip(x, a_min, a_max, **new)
    text = (HERE / f"models_{framework}.py").read_text()
    text = re.sub(r"(?m)^from triptych(?=[. ])", f"from {library}", text)
    module = types.ModuleType("authors_models")
    sys.modules[module.__name__] = module
    exec(compile(text, f"models_{framework}.py", "exec"), vars(module))
    return module


def cases(framework: str, module: Any) -> dict[str, tuple[Any, Any, dict[str, np.ndarray]]]:
    """Return name -> (class, config, inputs)."""
    from importlib import import_module

    bert = (
        getattr(module, "BertConfig", None)
        or import_module(module.PretrainedConfig.__module__.partition(".")[0]).BertConfig
    )
    prefix = {"pt": "", "tf": "TF", "flax": "Flax"}[framework]
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 19, (2, 5)).astype(np.int32)
    values = rng.normal(size=(2, 6, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    return {
        "signal": (getattr(module, f"{prefix}SignalEncoder"), module.SignalConfig(), {"values": values}),
        "recurrent": (getattr(module, f"{prefix}RecurrentForCausalLM"), module.RecurrentConfig(), {"input_ids": ids}),
        "scoring": (getattr(module, f"{prefix}BertForScoring"), bert(**BERT), {"input_ids": ids, "attention_mask": mask}),
    }  # fmt: skip


def output(framework: str, model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
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
    if framework == "pt":
        import torch

        for name, buffer in model.named_buffers():
            if buffer.is_floating_point() and ("running" in name or "shift" in name):
                buffer.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, buffer.shape).astype(np.float32)))
    elif framework == "tf":
        model(inputs)
        for variable in model.non_trainable_weights:
            if len(variable.shape) == 1:
                variable.assign(rng.uniform(0.5, 1.5, variable.shape).astype(np.float32))
    elif "batch_stats" in model.params:
        import jax

        stats = jax.tree_util.tree_map(
            lambda x: rng.uniform(0.5, 1.5, x.shape).astype(np.float32), model.params["batch_stats"]
        )
        model.params = {**model.params, "batch_stats": stats}


def write(folder: Path, framework: str, library: str) -> int:
    module = models_of(framework, library)
    for name, (cls, config, inputs) in cases(framework, module).items():
        model = cls(config)
        shuffle(framework, model, inputs)
        for number, options in enumerate(FORMATS[framework]):
            place = folder / framework / library / name / str(number)
            model.save_pretrained(place, **options)
            np.save(place / "expected.npy", output(framework, model, inputs))
        print(f"{library} wrote {name} ({framework})")
    return 0


def read(folder: Path, framework: str, library: str) -> int:
    module, failed = models_of(framework, library), 0
    for other in ("triptych", "transformers"):
        for name, (cls, _, inputs) in cases(framework, module).items():
            for place in sorted((folder / framework / other / name).glob("*")):
                said: dict[str, Any] = {}
                if framework == "flax" and library == "transformers":
                    model = cls.from_pretrained(place)
                else:
                    model, said = cls.from_pretrained(place, output_loading_info=True)
                expected = np.load(place / "expected.npy")
                scale = max(1.0, float(np.abs(expected).max()))
                difference = float(np.abs(output(framework, model, inputs) - expected).max()) / scale
                left = {key: value for key, value in said.items() if len(value)}
                failed += difference > TOLERANCE or bool(left)
                print(f"{library} read {name} ({framework}, {place.name}) of {other}: {difference:.1e} {left or ''}")
    return int(failed > 0)


if __name__ == "__main__":
    verb, place, framework, library = sys.argv[1:]
    sys.exit({"write": write, "read": read}[verb](Path(place), framework, library))
