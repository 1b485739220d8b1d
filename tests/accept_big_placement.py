"""Models over an accelerator, the CPU and the disk: what they compute beside the same model on the CPU alone.

    python tests/accept_big_placement.py gpu        # needs one; `cpu` does the same over the CPU and the disk

Random models are made in a temporary folder: a Llama of about 0.7 GB, tied, and a small T5. Printed are the map, what
the devices keep, how far outputs and gradients are apart, and seconds. Exits with status 1 if something is wrong.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from triptych import (
    AutoModelForSeq2SeqLM,
    DispatchedModelError,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

LLAMA = LlamaConfig(vocab_size=16000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12,
                    num_attention_heads=16, num_key_value_heads=4, tie_word_embeddings=True)  # fmt: skip
T5 = T5Config(vocab_size=2000, d_model=256, d_kv=64, d_ff=512, num_layers=4, num_heads=4, decoder_start_token_id=0)
IDS = (torch.arange(1, 2 * 24 + 1).reshape(2, 24) * 37) % 1999
failures: list[str] = []


def check(what: str, holds: bool, *facts: Any) -> None:
    """Print a fact, and remember if it does not hold."""
    print(f"{'ok  ' if holds else 'FAIL'} {what}", *facts, flush=True)
    if not holds:
        failures.append(what)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference over the largest value."""
    one, other = one.detach().float().cpu(), other.detach().float().cpu()
    return float((one - other).abs().max() / other.abs().max())


def memory_for(accelerator: bool, total: int) -> dict[Any, int]:
    return {0: total * 45 // 100, "cpu": total * 35 // 100} if accelerator else {"cpu": total * 60 // 100}


def llama(folder: Path, accelerator: bool) -> None:
    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(folder, max_shard_size="200MB")
    whole = LlamaForCausalLM.from_pretrained(folder)
    total = sum(parameter.nbytes for parameter in whole.parameters())
    memory = memory_for(accelerator, total)
    before = torch.cuda.memory_allocated() if accelerator else 0
    start = time.perf_counter()
    model = LlamaForCausalLM.from_pretrained(folder, device_map="auto", max_memory=memory)
    print(f"loaded in {time.perf_counter() - start:.2f} s; hf_device_map = {model.hf_device_map}")
    kept: dict[str, int] = {}
    for parameter in model.parameters():
        place = "disk" if parameter.is_meta else str(parameter.device)
        kept[place] = kept.get(place, 0) + parameter.nbytes
    print("bytes kept:", kept, "of", memory)
    check("each device keeps no more than it may", kept.get("cpu", 0) <= memory["cpu"])
    check("the disk keeps something", kept.get("disk", 0) > 0)
    if accelerator:
        check("the accelerator keeps what it may", torch.cuda.memory_allocated() - before <= memory[0],
              torch.cuda.memory_allocated() - before)  # fmt: skip
        check("device", model.device == torch.device("cuda:0"), model.device)
    with torch.no_grad():
        outputs, expected = model(IDS), whole(IDS)
    check("scores of inputs on the CPU", apart(outputs.logits, expected.logits) < 1e-4,
          apart(outputs.logits, expected.logits), outputs.logits.device)  # fmt: skip
    if accelerator:
        check("peak of the accelerator", torch.cuda.max_memory_allocated() - before < memory[0] + 2**28,
              torch.cuda.max_memory_allocated() - before)  # fmt: skip
        with torch.no_grad():
            logits = model(IDS.to("cuda")).logits
        check("scores of inputs on it", logits.device.type == "cuda" and apart(logits, expected.logits) < 1e-4)
    for options in ({}, {"num_beams": 3}, {"do_sample": True, "seed": 3}, {"cache_implementation": "static"}):
        start = time.perf_counter()
        texts = [one.generate(IDS, max_new_tokens=8, **options).cpu() for one in (model, whole)]
        check(f"generate {options}", torch.equal(*texts), f"{time.perf_counter() - start:.2f} s for both")
    for reentrant in (None, False, True):
        gradients(model, whole, reentrant)
    for change in ("cuda", "half"):
        try:
            getattr(model, change)()
            check(f"{change} is refused", False)
        except DispatchedModelError:
            check(f"{change} is refused", True)
    model.save_pretrained(folder / "again", max_shard_size="150MB")
    again = LlamaForCausalLM.from_pretrained(folder / "again")
    check("what it saves", all(torch.equal(p, q) for p, q in zip(again.parameters(), whole.parameters(), strict=True)))


def gradients(model: Any, whole: Any, reentrant: bool | None) -> None:
    """Compare the gradients of a training step, with gradient checkpointing unless `reentrant` is None."""
    for one in (model, whole):
        one.zero_grad()
        one.train()
        if reentrant is not None:
            one.gradient_checkpointing_enable({"use_reentrant": reentrant})
        one(IDS, labels=IDS, use_cache=False).loss.backward()
        one.gradient_checkpointing_disable()
        one.eval()
    found = dict(model.named_parameters())
    differences = [apart(found[name].grad, parameter.grad) for name, parameter in whole.named_parameters()
                   if not found[name].is_meta]  # fmt: skip
    lacking = [name for name, parameter in found.items() if parameter.grad is None and not parameter.is_meta]
    check(f"gradients, use_reentrant={reentrant}", not lacking and max(differences) < 1e-3,
          len(differences), max(differences))  # fmt: skip


def t5(folder: Path, accelerator: bool) -> None:
    T5ForConditionalGeneration(T5).save_pretrained(folder)
    whole = AutoModelForSeq2SeqLM.from_pretrained(folder)
    total = sum(parameter.nbytes for parameter in whole.parameters())
    for device_map in ("auto", "sequential", {"": "disk"}, {"": 0} if accelerator else {"": "cpu"}):
        memory = None if isinstance(device_map, dict) else memory_for(accelerator, total)
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, device_map=device_map, max_memory=memory)
        texts = [one.generate(IDS.to(one.device), max_new_tokens=8).cpu() for one in (model, whole)]
        check(f"T5, {device_map}", torch.equal(*texts), model.hf_device_map)


def main() -> None:
    accelerator = sys.argv[1:] != ["cpu"]
    if accelerator and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here")
    for one in (llama, t5):
        with tempfile.TemporaryDirectory() as folder:
            one(Path(folder), accelerator)
    print("failed: " + ", ".join(failures) if failures else "all is well")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
