"""What generation does on a GPU beside a CPU, in PyTorch and JAX: needs one, and is no test of the suite.

    python tests/accept_gpu.py [pt] [flax]

In float32 without TensorFloat: the recorded texts of transformers 4; one seed's texts beside the CPU's; every way to
search; caches of every kind, the offloaded one among them, which moves keys and values between GPU and CPU. Prints what
it compared, and exits with status 1 if a text differs or a framework sees no GPU.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [
    str(ROOT / one) for one in ("core", "pt", "flax", "conformance", "conformance/support", "tests/support")
]
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

STEMS = {"gpt2-lm": "GPT2LMHeadModel", "llama-gqa": "LlamaForCausalLM", "t5-tied": "T5ForConditionalGeneration",
         "t5-v11": "T5ForConditionalGeneration"}  # fmt: skip
RECORDED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam4": {"num_beams": 4},
    "beam3_return2": {"num_beams": 3, "num_return_sequences": 2},
    "norepeat2_minlen_reppen": {"no_repeat_ngram_size": 2, "min_length": 5, "repetition_penalty": 1.3},
}
WAYS: dict[str, dict[str, Any]] = {
    "sampling": {"do_sample": True, "seed": 3, "top_k": 5, "top_p": 0.9},
    "beams that are drawn": {"num_beams": 2, "do_sample": True, "seed": 3},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
}
CACHES = ("static", "offloaded", "offloaded_static")


def on_gpu(framework: str, model: Any) -> Any:
    if framework == "pt":
        return model.to("cuda")
    import jax

    model.params = jax.device_put(model.params, jax.devices("gpu")[0])
    return model


def on_cpu(framework: str, model: Any) -> Any:
    if framework == "pt":
        return model
    import jax

    model.params = jax.device_put(model.params, jax.devices("cpu")[0])
    return model


def texts(model: Any, ids: Any, **options: Any) -> np.ndarray:
    found = model.generate(ids, **options)
    found = found.sequences if hasattr(found, "sequences") else found
    return np.asarray(found.cpu() if hasattr(found, "cpu") else found)


def compare(framework: str) -> list[str]:
    """Return what differs."""
    import triptych
    from golden_models import Golden

    wrong, count = [], 0
    prefix = "Flax" if framework == "flax" else ""
    for stem, name in STEMS.items():
        cls, golden = getattr(triptych, prefix + name), Golden(stem)
        folder, inputs, expected = golden.folder, golden.inputs, golden.expected
        asked = {"attention_mask": inputs["attention_mask"], "max_new_tokens": 9}
        here, there = on_gpu(framework, cls.from_pretrained(folder)), on_cpu(framework, cls.from_pretrained(folder))
        tries: list[tuple[str, dict[str, Any], Any]] = [
            (mode, options, expected[f"generate.{mode}"]) for mode, options in RECORDED.items()
        ]
        tries += [(way, options, None) for way, options in WAYS.items()]
        if framework == "pt":
            tries += [(f"cache {one}", {"cache_implementation": one}, None) for one in CACHES]
        for what, options, wanted in tries:
            try:
                found = texts(here, inputs["input_ids"], **asked, **options)
                wanted = texts(there, inputs["input_ids"], **asked, **options) if wanted is None else wanted
            except triptych.TriptychError as refusal:
                print(f"  {framework} {stem} {what}: refused: {str(refusal).splitlines()[0]}")
                continue
            count += 1
            if found.shape != wanted.shape or not np.array_equal(found, wanted):
                wrong.append(f"{framework} {stem} {what}")
    print(f"{framework}: {count} texts on the GPU, differ: {wrong}", flush=True)
    return wrong


def has_gpu(framework: str) -> bool:
    if framework == "pt":
        import torch

        return torch.cuda.is_available()
    import jax

    return any(device.platform in ("gpu", "cuda") for device in jax.devices())


def main(frameworks: list[str]) -> int:
    wrong: list[str] = []
    for framework in frameworks or ["pt", "flax"]:
        wrong += compare(framework) if has_gpu(framework) else [f"{framework} sees no GPU"]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
