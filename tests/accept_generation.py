"""Generation against transformers, and the three frameworks against each other, over many seeds: longer than a test.

    python tests/accept_generation.py seeds [COUNT]             # one seed, one text: three families, three frameworks
    python tests/accept_generation.py transformers5 [COUNT]     # random tiny models, PyTorch, against transformers 5
    python tests/accept_generation.py transformers4 PATH [COUNT]  # groups of beams against 4.48.3, which lies at PATH
    python tests/accept_generation.py smollm2                   # the real SmolLM2: ten prompts over all modes
    python tests/accept_generation.py write FOLDER COUNT        # a part of `transformers4`: what transformers says

Exits with status 1 if a text differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / one) for one in ("conformance", "conformance/support", "tests/support")]

STEMS = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "t5": "T5ForConditionalGeneration"}
TOKENS = {"eos_token_id": 2, "pad_token_id": 1}  # transformers 5 takes a padding token 0 for none
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams 2": {"num_beams": 2},
    "beams 4": {"num_beams": 4, "num_return_sequences": 2},
    "beams 8": {"num_beams": 8, "early_stopping": True},
    "beams 3, never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 1.7},
    "penalties": {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "encoder_repetition_penalty": 1.2},
    "least length": {"min_new_tokens": 5, "num_beams": 2, "length_penalty": 0.3},
    "bias, bad words": {"sequence_bias": [[[7], 1.5], [[8, 9], -2.0]], "bad_words_ids": [[5], [6, 7]]},
}
GROUPS: dict[str, dict[str, Any]] = {
    "groups 2": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7},
    "groups 3": {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 1.5, "num_return_sequences": 6},
}
SMOLLM2: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalty": {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
    "beams 3": {"num_beams": 3, "num_return_sequences": 2},
    "sample": {"do_sample": True, "top_k": 40, "top_p": 0.9, "temperature": 0.8, "seed": 3},
    "beam sample": {"do_sample": True, "num_beams": 3, "top_k": 0, "seed": 4},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
}
PROMPTS = [
    "The capital of France is", "Once upon a time", "def fibonacci(n):", "Water boils at", "The best way to learn",
    "In the year 1969,", "My favourite food is", "The three laws of", "To be or not to be,", "A neural network is",
]  # fmt: skip


def prompt_of(variant: str, seed: int) -> np.ndarray:
    """Return two prompts; of decoders alone, the second is padded on the left."""
    ids = np.random.default_rng(seed).integers(3, 30, (2, 5))
    if variant != "t5":
        ids[1, :2] = 1
    return ids


def options_of(variant: str, options: dict[str, Any]) -> dict[str, Any]:
    start = {"decoder_start_token_id": 0} if variant == "t5" else {}
    return {"max_new_tokens": 8, **TOKENS, **start, **options}


def folder_of(root: Path, variant: str, seed: int) -> Path:
    from small_models import config_of, random_folder

    folder = root / f"{variant}{seed}"
    # Decoders of more layers than the encoder have a cache of too few layers in transformers 5.
    layers = {"num_decoder_layers": 2} if variant == "t5" else {}
    return folder if folder.exists() else random_folder(folder, config_of(variant, **layers), STEMS[variant], seed)


def texts(model: Any, ids: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Return the texts of a model of PyTorch, of either library."""
    mask = torch.tensor((ids != 1).astype(np.int64))
    with torch.no_grad():
        return np.asarray(model.generate(torch.tensor(ids), attention_mask=mask, **options))


def seeds(count: int) -> int:
    from generating import padded_equal, sequences
    from triptych_conformance import BACKENDS

    wrong = 0
    for variant, stem in STEMS.items():
        with tempfile.TemporaryDirectory() as root:
            models = {one: one.load(stem, folder_of(Path(root), variant, 0)) for one in BACKENDS}
        for name, options in {"sample": {"top_k": 12}, "beam sample": {"num_beams": 3, "top_k": 0}}.items():
            differ = 0
            for seed in range(count):
                ids = prompt_of(variant, seed)
                given = {"attention_mask": (ids != 1).astype(np.int64), "do_sample": True, "seed": seed, **options}
                found = [sequences(one, models[one], ids, **options_of(variant, given)) for one in BACKENDS]
                differ += not all(padded_equal(found[0], other, 1) for other in found[1:])
            print(f"{variant} {name}: {count} seeds, {differ} differ between frameworks", flush=True)
            wrong += differ
    return wrong


def against_transformers5(count: int) -> int:
    import transformers

    import triptych

    transformers.logging.set_verbosity_error()
    wrong = 0
    for variant, stem in STEMS.items():
        differ: dict[str, list[int]] = {name: [] for name in MODES}
        with tempfile.TemporaryDirectory() as root:
            for seed in range(count):
                folder = folder_of(Path(root), variant, seed)
                ours = getattr(triptych, stem).from_pretrained(folder)
                theirs = getattr(transformers, stem).from_pretrained(folder).eval()
                ids = prompt_of(variant, seed)
                for name, options in MODES.items():
                    given = options_of(variant, options)
                    if not np.array_equal(texts(ours, ids, given), texts(theirs, ids, given)):
                        differ[name].append(seed)
        for name, found in differ.items():
            print(f"{variant} {name}: {count} models, {len(found)} differ from transformers 5 {found[:5]}", flush=True)
        wrong += sum(map(len, differ.values()))
    return wrong


def write(root: Path, count: int) -> int:
    """Write what transformers 4, which is first on the path, says of groups of beams."""
    import transformers

    said: dict[str, Any] = {}
    for variant, stem in STEMS.items():
        for seed in range(count):
            model = getattr(transformers, stem).from_pretrained(root / f"{variant}{seed}").eval()
            for name, options in GROUPS.items():
                found = texts(model, prompt_of(variant, seed), options_of(variant, options))
                said[f"{variant} {seed} {name}"] = found.tolist()
    (root / "said.json").write_text(json.dumps(said))
    return 0


def against_transformers4(path: str, count: int) -> int:
    import triptych

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folders = {(v, seed): folder_of(root, v, seed) for v in STEMS for seed in range(count)}
        environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        environment |= {"USE_TF": "0", "USE_FLAX": "0"}
        command = [sys.executable, str(Path(__file__)), "write", name, str(count)]
        subprocess.run(command, check=True, env=environment)
        said = json.loads((root / "said.json").read_text())
        differ = []
        for (variant, seed), folder in folders.items():
            model = getattr(triptych, STEMS[variant]).from_pretrained(folder)
            for mode, options in GROUPS.items():
                found = texts(model, prompt_of(variant, seed), options_of(variant, options))
                if found.tolist() != said[f"{variant} {seed} {mode}"]:
                    differ.append((variant, seed, mode))
    print(f"groups of beams: {len(said)} texts, {len(differ)} differ from transformers 4.48.3 {differ[:8]}")
    return len(differ)


def smollm2() -> int:
    import transformers
    from typer.testing import CliRunner

    from generating import padded_equal, sequences
    from gguf_tokenizer import smollm2_path
    from triptych.cli import app
    from triptych.tools.texts import open_texts
    from triptych_conformance import BACKENDS

    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "model"
        done = CliRunner().invoke(app, ["convert", str(smollm2_path()), str(folder)])
        assert done.exit_code == 0, done.output
        tokenizer = open_texts(folder).tokenizer
        models = {one: one.load("AutoModelForCausalLM", folder) for one in BACKENDS}
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        wrong = 0
        for mode, options in SMOLLM2.items():
            differ = []
            for prompt in PROMPTS:
                ids = np.array([tokenizer.encode(prompt).ids])
                given = {"max_new_tokens": 20, "pad_token_id": 0, **options}
                found = [sequences(one, models[one], ids, **given) for one in BACKENDS]
                same = all(padded_equal(found[0], other, 0) for other in found[1:])
                if "seed" not in options and "num_beam_groups" not in options:
                    same = same and padded_equal(found[0], texts(theirs, ids, given), 0)
                differ += [] if same else [prompt]
            print(f"SmolLM2 {mode}: {len(PROMPTS)} prompts, differ: {differ}", flush=True)
            wrong += len(differ)
    return wrong


def main(arguments: list[str]) -> int:
    verb, *rest = arguments or ["help"]
    if verb == "seeds":
        return seeds(int(rest[0]) if rest else 200)
    if verb == "transformers5":
        return against_transformers5(int(rest[0]) if rest else 200)
    if verb == "transformers4":
        return against_transformers4(rest[0], int(rest[1]) if len(rest) > 1 else 200)
    if verb == "write":
        return write(Path(rest[0]), int(rest[1]))
    if verb == "smollm2":
        return smollm2()
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
