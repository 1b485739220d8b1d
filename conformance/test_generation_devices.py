"""A search makes each array where the model is: seen on PyTorch's device without values, where two steps are run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import config_of, random_folder
from triptych import GPT2LMHeadModel, LlamaForCausalLM, T5ForConditionalGeneration
from triptych.generation import mixin
from triptych_pt import ops

CLASSES: dict[str, Any] = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM, "t5": T5ForConditionalGeneration}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True, "seed": 3, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.9},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "beams that are drawn": {"num_beams": 2, "do_sample": True, "seed": 3},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "processors": {
        "repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "min_new_tokens": 2, "bad_words_ids": [[4], [5, 6]],
        "sequence_bias": [[[7], 1.0]], "suppress_tokens": [8], "begin_suppress_tokens": [9], "forced_eos_token_id": 2,
        "exponential_decay_length_penalty": (1, 1.1), "remove_invalid_values": True, "renormalize_logits": True,
    },
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
}  # fmt: skip


def two_steps(condition: Callable[..., Any], body: Callable[..., Any], state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Run the body twice: there are no values to end by."""
    condition(*state)
    return body(*body(*state))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", CLASSES)
def test_arrays_are_made_where_the_model_is(
    variant: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = CLASSES[variant]
    model = cls.from_pretrained(random_folder(tmp_path / "model", config_of(variant), cls.__name__)).to("meta")
    monkeypatch.setattr(ops, "known", lambda x: x if isinstance(x, int) else None)
    monkeypatch.setattr(mixin, "python_loop", two_steps)
    monkeypatch.setattr(mixin, "_longest", lambda found: 7)
    ids = torch.zeros((2, 4), dtype=torch.int64, device="meta")
    start = {"decoder_start_token_id": 0} if variant == "t5" else {}
    found = model.generate(ids, attention_mask=ids + 1, max_new_tokens=5, eos_token_id=2, pad_token_id=0,
                           **WAYS[way], **start)  # fmt: skip
    assert found.device.type == "meta"


def test_the_guard_sees_an_array_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ops, "zeros", lambda shape, dtype, like=None: torch.zeros(tuple(shape), dtype=torch.int64))
        with pytest.raises(RuntimeError, match="device"):
            test_arrays_are_made_where_the_model_is("gpt2", "greedy", tmp_path, patched)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tensors refuse to become arrays of NumPy, as those on a GPU do, unless `cpu` was called for it."""
    as_array, to_cpu, brought = torch.Tensor.__array__, torch.Tensor.cpu, set[int]()

    def array(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.data_ptr() not in brought:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return as_array(x, *args, **kwargs)

    def cpu(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        copy = to_cpu(x, *args, **kwargs).clone()
        brought.add(copy.data_ptr())
        return copy

    monkeypatch.setattr(torch.Tensor, "__array__", array)
    monkeypatch.setattr(torch.Tensor, "cpu", cpu)


MORE: dict[str, dict[str, Any]] = {
    "records": {"output_scores": True, "output_logits": True, "return_dict_in_generate": True, "num_beams": 2},
    "offloaded cache": {"cache_implementation": "offloaded"},
    "prompt lookup": {"prompt_lookup_num_tokens": 2},
    "guidance": {"guidance_scale": 1.5},
    "watermark": {"watermarking_config": {"greenlist_ratio": 0.5}, "do_sample": True},
    "time": {"max_time": 60.0},
}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("variant", "way"),
    [("gpt2", way) for way in (*WAYS, *MORE)] + [("t5", way) for way in ("greedy", "beams", "records")],
)
def test_tensors_are_brought_to_the_host_before_python_looks_at_them(variant: str, way: str, tmp_path: Path) -> None:
    cls, rows = CLASSES[variant], 1 if way == "prompt lookup" else 2
    model = cls.from_pretrained(random_folder(tmp_path / "model", config_of(variant), cls.__name__))
    ids = torch.arange(4).repeat(rows, 1) + 5
    start = {"decoder_start_token_id": 0} if variant == "t5" else {}
    found = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, eos_token_id=2, pad_token_id=0,
                           **(WAYS | MORE)[way], **start)  # fmt: skip
    assert len(found if isinstance(found, torch.Tensor) else found.sequences) >= rows
