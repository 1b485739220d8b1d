"""Have transformers 4.48.3's own readers load what triptych wrote, and run it against the recorded outputs.

    python tests/accept_transformers4.py write FOLDER          # in triptych's environment
    python tests/accept_transformers4.py read FOLDER pt        # in one with transformers 4.48.3; likewise tf and flax

Not a part of the tests, since nothing of triptych runs beside transformers 4. For `tf` and `flax`, put transformers
4.48.3, tokenizers 0.21, huggingface_hub 0.30 and tf_keras 2.21 (`pip install --no-deps --target`) before triptych's own
environment on PYTHONPATH; for `pt`, any environment with torch and transformers 4.48.3. Prints the largest difference
to each record and what the reader reported as missing, unexpected or mismatched; exits with status 1 if something was,
or if a difference is above the tolerance.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "conformance/triptych_conformance"))
from tolerance import compare  # noqa: E402  (as a file: its package needs all frameworks, which are not all there)

GOLDEN = Path(__file__).parent / "golden"
STEMS = {
    "bert-mlm": "BertForMaskedLM",
    "bert-cls": "BertForSequenceClassification",
    "gpt2-lm": "GPT2LMHeadModel",
    "t5-tied": "T5ForConditionalGeneration",
    "t5-v11": "T5ForConditionalGeneration",
    "llama-gqa": "LlamaForCausalLM",
}
FORMATS = {"pt": ("bin", "safetensors"), "tf": ("h5", "safetensors-tf"), "flax": ("msgpack", "safetensors-flax")}
SIZES = ("5GB", "16KB")
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")


def write(folder: Path) -> None:
    from triptych.formats.kinds import FORMATS as KINDS
    from triptych.tools import editing

    for name in STEMS:
        for format in KINDS.values():
            for size in SIZES:
                draft = editing.open_draft(GOLDEN / name / "pt-safetensors")
                editing.write(draft, folder / name / f"{format.name}-{size}", format, max_shard_size=size)


def prepare(framework: str) -> str:
    """Set what transformers looks at when it is imported; return the prefix of its classes."""
    os.environ |= {"USE_TORCH": "0", "USE_TF": "0", "USE_FLAX": "0", "TF_USE_LEGACY_KERAS": "1", "JAX_PLATFORMS": "cpu"}
    os.environ[{"pt": "USE_TORCH", "tf": "USE_TF", "flax": "USE_FLAX"}[framework]] = "1"
    if framework == "flax":
        import jax.numpy as jnp

        clip = jnp.clip  # its T5 calls this by names that jax no longer has
        jnp.clip = lambda x, a_min=None, a_max=None: clip(x, a_min, a_max)
    return {"pt": "", "tf": "TF", "flax": "Flax"}[framework]


def logits(framework: str, cls: Any, folder: Path, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if framework == "flax":  # which has no output_loading_info
        model = cls.from_pretrained(folder)
        return model(**inputs).logits, {}
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    if framework == "tf":
        return model(inputs, training=False).logits.numpy(), info
    import torch

    with torch.no_grad():
        return model.eval()(**{name: torch.tensor(value) for name, value in inputs.items()}).logits.numpy(), info


def read(folder: Path, framework: str) -> bool:
    prefix = prepare(framework)
    import numpy as np
    import transformers

    good = True
    print(f"transformers {transformers.__version__}, {framework}")
    for name, stem in STEMS.items():
        cls = getattr(transformers, prefix + stem, None)
        if cls is None:
            print(f"{name}: no {prefix + stem}")
            continue
        record = np.load(GOLDEN / name / "expected.npz")
        inputs = {key: record[key] for key in INPUTS if key in record}
        for form in FORMATS[framework]:
            for size in SIZES if form != "safetensors-flax" else SIZES[:1]:  # it reads no sharded ones
                got, info = logits(framework, cls, folder / name / f"{form}-{size}", inputs)
                gap = compare(got, record["out.logits"], inputs["attention_mask"])
                said = {key: value for key, value in info.items() if value}
                good &= not said and gap.fraction <= 1
                print(f"{name} {form} {size}: {gap.difference:.1e} {said or ''}", flush=True)
    return good


if __name__ == "__main__":
    verb, where = sys.argv[1], Path(sys.argv[2])
    if verb == "write":
        write(where)
    else:
        sys.exit(0 if read(where, sys.argv[3]) else 1)
