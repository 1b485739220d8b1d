"""`generate` in PyTorch: see `triptych.generation.mixin`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from triptych.errors import ArgumentError
from triptych.generation.healing import healed
from triptych.generation.hooks import Hooks
from triptych.generation.mixin import Asked, Generation
from triptych.generation.steps import HookedSteps, Steps

__all__ = ["GenerationMixin"]


class Generates(Hooks, Generation):
    """Part of `PreTrainedModel`."""

    device: Any

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: Any = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        prefix_allowed_tokens_fn: Callable[[int, torch.Tensor], list[int]] | None = None,
        synced_gpus: bool | None = None,
        assistant_model: Any = None,
        streamer: Any = None,
        negative_prompt_ids: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        use_model_defaults: bool | None = None,
        custom_generate: Any = None,
        *,
        seed: int | None = None,
        tokenizer: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return texts that go on from prompts."""
        if custom_generate is not None:
            raise ArgumentError(
                "No code of a repository is run to generate.", expected="custom_generate=None",
                received=repr(custom_generate)[:80],
                remedy="import the function generate of its file, and call it with the model",
            )  # fmt: skip
        if synced_gpus:
            kwargs["synced_gpus"] = synced_gpus  # which is refused, as in the other frameworks
        asked = Asked(
            inputs, generation_config, logits_processor, stopping_criteria, prefix_allowed_tokens_fn, streamer,
            assistant_model, negative_prompt_ids, negative_prompt_attention_mask, use_model_defaults, tokenizer,
            noise=(_Native, None), seed=seed,
        )  # fmt: skip
        return self._generate(asked, kwargs)

    def heal_tokens(self, input_ids: torch.Tensor, tokenizer: Any = None) -> torch.Tensor:
        """Return prompts [B, P'] whose last token may be another that begins like it: see
        `triptych.generation.healing.healed`. `generate` does so first with `token_healing=True`.

        Args:
            input_ids: prompts [B, P].

        Raises:
            ArgumentError: there is no tokenizer, or it has no token for padding.
        """
        return self._as_ids(healed(self, input_ids, tokenizer)[0])

    def _steps_class(self) -> type[Steps]:
        return HookedSteps

    def _as_ids(self, tokens: Any) -> torch.Tensor:
        return torch.as_tensor(tokens, dtype=torch.int64, device=self.device)


class GenerationMixin(Generates):
    """A base class that says that a model generates, as in transformers 4; `PreTrainedModel` has all its methods."""


class _Native:
    """Draws of PyTorch's own generator, in the order in which transformers 4 asks for them."""

    varies = True
    """Whether a second draw for the same step is another."""

    def __init__(self, ops: Any, state: Any) -> None:
        pass

    def one(self, scores: torch.Tensor, step: Any) -> torch.Tensor:
        return torch.multinomial(torch.softmax(scores, dim=-1), 1)[:, 0]

    def several(self, scores: torch.Tensor, count: int, step: Any) -> torch.Tensor:
        return torch.multinomial(torch.softmax(scores, dim=-1), count)
