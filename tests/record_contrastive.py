"""Record what contrastive search of transformers 4.48.3 finds, as tests/golden/contrastive_4_48.json.

    python tests/record_contrastive.py      # in an environment with PyTorch and transformers 4.48.3

The cases are written into the file too: `conformance/test_generation_contrastive.py` runs them in every framework.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
STEMS = {"gpt2-lm": "GPT2LMHeadModel", "llama-gqa": "LlamaForCausalLM", "t5-v11": "T5ForConditionalGeneration"}
PROMPTS: dict[str, Any] = {
    "one": {"input_ids": [[5, 9, 14, 7]]},
    "padded": {"input_ids": [[0, 0, 11, 6], [8, 21, 4, 17]], "attention_mask": [[0, 0, 1, 1], [1, 1, 1, 1]]},
}
SETTINGS: list[dict[str, Any]] = [
    {"penalty_alpha": 0.6, "top_k": 4},
    {"penalty_alpha": 0.95, "top_k": 6},
    {"penalty_alpha": 0.8, "top_k": 5, "suppress_tokens": [9, 21, 44, 67, 83]},
]
MORE: dict[str, Any] = {"max_new_tokens": 9, "pad_token_id": 0}


def main() -> None:
    import torch
    import transformers

    if transformers.__version__ != "4.48.3":
        raise SystemExit(f"transformers is {transformers.__version__}, and 4.48.3 is to be recorded")
    cases = []
    for name, stem in STEMS.items():
        model = getattr(transformers, stem).from_pretrained(GOLDEN / name / "pt-safetensors").eval()
        for prompt in PROMPTS.values():
            inputs = {key: torch.tensor(value) for key, value in prompt.items()}
            for setting in SETTINGS:
                free = model.generate(**inputs, **setting, **MORE, eos_token_id=None)
                end = int(free[0, -4])  # a token that the first text has, so that it ends and others go on
                for eos in (None, end):
                    found = model.generate(**inputs, **setting, **MORE, eos_token_id=eos)
                    options = {**setting, **MORE, "eos_token_id": eos}
                    cases.append({"model": name, "inputs": prompt, "options": options, "sequences": found.tolist()})
    text = ",\n".join(json.dumps(case) for case in cases)
    (GOLDEN / "contrastive_4_48.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
