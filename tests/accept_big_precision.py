"""Low precision and placement, as numbers: longer than a test.

    python tests/accept_big_precision.py table [--only bert t5 ...] [--seeds 3]
    python tests/accept_big_precision.py places FOLDER
    python tests/accept_big_precision.py gpu

`table`: the error of every family in bfloat16 and float16 in each framework, over that of transformers 5's own model of
the same weights in PyTorch; both against the float32 result of those very weights, as roots of the mean square. About 1
is wanted, and 3 allowed (`triptych_conformance.tolerance`). Exits with status 1 if one is above.

`places`: memory of a load of FOLDER, a large Llama, in Flax over four devices (all of them the CPU) and of a save of
that model, over the size of its parameters; a whole copy beside them would be 2.

`gpu`: the errors of PyTorch and JAX on the first GPU that each sees, over those of transformers in PyTorch on it; the
float32 result is the CPU's. In Flax also `device="gpu"` with outputs beside the CPU's, in the host's memory too, and
what the first device holds while arrays go over a mesh.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / one) for one in ("conformance", "conformance/support", "tests/support", "benchmarks")]

from convert import anonymous  # noqa: E402

from small_models import random_inputs  # noqa: E402
from triptych import PretrainedConfig, TensorRef, save_checkpoint  # noqa: E402
from triptych.families import declared_schema, family  # noqa: E402
from triptych.tensors.dtypes import parse_param_dtype  # noqa: E402
from triptych_conformance import Backend  # noqa: E402
from triptych_conformance.tolerance import LOW_PRECISION, compare_low_precision  # noqa: E402

Arrays = Mapping[str, np.ndarray]
PRECISIONS = ("bfloat16", "float16")
WIDE = dict(vocab_size=997, hidden_size=128, num_hidden_layers=6, num_attention_heads=8, intermediate_size=512,
            max_position_embeddings=128)  # fmt: skip
LLAMA = {**WIDE, "num_key_value_heads": 4, "pad_token_id": 0}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("bert", "BertForMaskedLM", WIDE),
    "bert, decoder": ("bert", "BertLMHeadModel", {**WIDE, "is_decoder": True}),
    "roberta": ("roberta", "RobertaForMaskedLM", WIDE),
    "distilbert": ("distilbert", "DistilBertForMaskedLM",
                   dict(vocab_size=997, dim=128, n_layers=6, n_heads=8, hidden_dim=512, max_position_embeddings=128)),
    "electra": ("electra", "ElectraForMaskedLM", {**WIDE, "embedding_size": 64}),
    "gpt2": ("gpt2", "GPT2LMHeadModel", dict(vocab_size=997, n_embd=128, n_layer=6, n_head=8, n_positions=128)),
    "opt": ("opt", "OPTForCausalLM", dict(vocab_size=997, hidden_size=128, num_hidden_layers=6, num_attention_heads=8,
                                          ffn_dim=512, max_position_embeddings=128, word_embed_proj_dim=96)),
    "t5": ("t5", "T5ForConditionalGeneration", dict(vocab_size=997, d_model=128, d_kv=16, d_ff=512, num_layers=4,
                                                    num_heads=8)),
    "t5, gated": ("t5", "T5ForConditionalGeneration",
                  dict(vocab_size=997, d_model=128, d_kv=16, d_ff=512, num_layers=4, num_heads=8,
                       feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "llama": ("llama", "LlamaForCausalLM", LLAMA),
    "mistral": ("mistral", "MistralForCausalLM", {**LLAMA, "sliding_window": 16}),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", LLAMA),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", {**LLAMA, "head_dim": 32}),
}  # fmt: skip


def write_model(folder: Path, config: PretrainedConfig, stem: str, dtype: str, seed: int) -> None:
    """Write weights as large as those of trained models, in `dtype`: of unit variance after each projection."""
    schema, rng = declared_schema(config, stem), np.random.default_rng(seed)
    assert schema is not None
    refs = []
    for weight in schema.stored():
        array = rng.standard_normal(weight.shape) * (0.02 if len(weight.shape) < 2 else weight.shape[-1] ** -0.5)
        array = array + ("norm" in weight.layout and not weight.name.endswith("bias"))
        refs.append(TensorRef.of(weight.name, array.astype(parse_param_dtype(dtype))))
    config.architectures, config.dtype = [stem], dtype
    save_checkpoint(folder, refs, config.to_json_string())


def inputs_for(config: PretrainedConfig, seed: int) -> dict[str, np.ndarray]:
    inputs = random_inputs(config, seed, batch=4, length=48)
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = np.random.default_rng(seed).integers(3, config.vocab_size, (4, 20))
    return inputs


def theirs(stem: str, folder: Path, inputs: Arrays, dtype: str, device: str = "cpu") -> np.ndarray:
    """Return the logits of transformers' own model."""
    import torch
    import transformers

    model = getattr(transformers, stem).from_pretrained(folder, dtype=getattr(torch, dtype)).to(device).eval()
    with torch.no_grad():
        made = model(**{name: torch.tensor(value, device=device) for name, value in inputs.items()})
    return np.asarray(made.logits.float().cpu())


def ours(backend: Backend, stem: str, folder: Path, inputs: Arrays, dtype: str) -> np.ndarray:
    """Return our logits, computed in `dtype` with parameters of `dtype`."""
    return backend.run(backend.load(stem, folder, param_dtype=dtype, dtype=dtype), inputs)["logits"]


def table(names: list[str], seeds: int, frameworks: list[str]) -> bool:
    print(
        f"{'error / error of transformers 5':24}" + "".join(f"{f'{f} {p}':>16}" for p in PRECISIONS for f in frameworks)
    )
    good = True
    for name in names:
        kind, stem, options = MODELS[name]
        ratios = []
        for dtype in PRECISIONS:
            found: dict[str, list[float]] = {framework: [] for framework in frameworks}
            for seed in range(seeds):
                config = family(kind).config_class(**options)
                with tempfile.TemporaryDirectory() as folder:
                    write_model(Path(folder), config, stem, dtype, seed)
                    inputs = inputs_for(config, seed)
                    mask = None if config.is_encoder_decoder else inputs["attention_mask"]
                    exact = theirs(stem, Path(folder), inputs, "float32")
                    reference = theirs(stem, Path(folder), inputs, dtype)
                    for framework in frameworks:
                        made = ours(Backend(framework), stem, Path(folder), inputs, dtype)
                        found[framework].append(compare_low_precision(made, exact, reference, mask).fraction)
            ratios += [float(np.mean(found[framework])) * LOW_PRECISION for framework in frameworks]
        good &= max(ratios) <= LOW_PRECISION
        print(f"{name:24}" + "".join(f"{ratio:16.2f}" for ratio in ratios), flush=True)
    return good


def growth(action: Callable[[], Any]) -> tuple[Any, int]:
    """Return what `action` returns, and by how many bytes anonymous memory grew at most during it."""
    peak, stop, before = [0], threading.Event(), anonymous(os.getpid())

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], anonymous(os.getpid()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        result = action()
    finally:
        stop.set()
        thread.join()
    return result, max(peak[0], anonymous(os.getpid())) - before


def places(folder: Path) -> bool:
    """Load a Llama over four devices and save it; return whether memory stays below 1.3 of its parameters."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    import jax
    from jax.sharding import Mesh, PartitionSpec

    from triptych import FlaxLlamaForCausalLM

    mesh = Mesh(np.array(jax.devices()), ("model",))
    rules = {r"(q|k|v|gate|up)_proj|lm_head": PartitionSpec(None, "model"), r"(o|down)_proj": PartitionSpec("model")}

    def load() -> Any:
        return jax.block_until_ready(
            FlaxLlamaForCausalLM.from_pretrained(folder, param_dtype="auto", mesh=mesh, sharding=rules).params
        )

    params, loaded = growth(load)
    # What is whole on each of four devices that share one memory is there four times.
    held = sum(shard.data.nbytes for leaf in jax.tree.leaves(params) for shard in leaf.addressable_shards)
    model = FlaxLlamaForCausalLM(FlaxLlamaForCausalLM.config_class.from_pretrained(folder), _do_init=False)
    with tempfile.TemporaryDirectory() as out:
        _, saved = growth(lambda: model.save_pretrained(out, params=params))
    print(f"parameters on four devices {held / 1e9:.2f} GB; load x {loaded / held:.2f}, save + x {saved / held:.2f}")
    return loaded < 1.3 * held and saved < 0.3 * held


def on_gpu(names: list[str], seeds: int) -> bool:
    import jax
    import torch

    good, cards = True, [device for device in jax.devices() if device.platform == "gpu"]
    print("torch:", torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU", "| jax:", jax.devices())
    for name in names:
        kind, stem, options = MODELS[name]
        config = family(kind).config_class(**options)
        for dtype in PRECISIONS:
            with tempfile.TemporaryDirectory() as path:
                folder, ratios = Path(path), {}
                write_model(folder, config, stem, dtype, seed=0)
                inputs = inputs_for(config, 0)
                mask = None if config.is_encoder_decoder else inputs["attention_mask"]
                exact = theirs(stem, folder, inputs, "float32")
                reference = theirs(stem, folder, inputs, dtype, "cuda" if torch.cuda.is_available() else "cpu")
                found = {}
                if torch.cuda.is_available():
                    model = Backend("pt").load(stem, folder, dtype=dtype, device_map="cuda:0")
                    on_card = {n: torch.tensor(value, device="cuda") for n, value in inputs.items()}
                    with torch.no_grad():
                        found["pt"] = model(**on_card).logits.float().cpu().numpy()
                if cards:
                    model = Backend("flax").load(stem, folder, dtype=dtype, param_dtype=dtype, device=cards[0])
                    found["flax"] = compiled(model, inputs)
                    host = jax.sharding.SingleDeviceSharding(cards[0], memory_kind="pinned_host")
                    model = Backend("flax").load(stem, folder, dtype=dtype, param_dtype=dtype, sharding=host)
                    found["flax, from the host"] = compiled(model, inputs)
                    kinds = {leaf.sharding.memory_kind for leaf in jax.tree.leaves(model.params)}
                    good &= kinds == {"pinned_host"}
                for framework, made in found.items():
                    ratios[framework] = compare_low_precision(made, exact, reference, mask).fraction * LOW_PRECISION
            good &= all(ratio <= LOW_PRECISION for ratio in ratios.values())
            print(f"{name:18}{dtype:10}", {n: round(ratio, 2) for n, ratio in ratios.items()}, flush=True)
    for device in cards:
        stats = device.memory_stats() or {}
        print(device, "bytes at most:", stats.get("peak_bytes_in_use"))
    return good


def compiled(model: Any, inputs: Arrays) -> np.ndarray:
    import jax

    return np.asarray(jax.jit(lambda params: model(**inputs, params=params).logits)(model.params), np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "places", "gpu"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--frameworks", nargs="*", default=["pt", "tf", "flax"])
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "table":
        good = table(arguments.only, arguments.seeds, arguments.frameworks)
    elif arguments.what == "places":
        good = places(arguments.folder)
    else:
        good = on_gpu(arguments.only, arguments.seeds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
