"""`generate` in PyTorch: see `triptych.generation.mixin`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from triptych.errors import ArgumentError
from triptych.generation.healing import healed
from triptych.generation.hooks import Hooks
from triptych.generation.mixin import Asked, Generation
from triptych.generation.own_steps import HookedSteps
from triptych.generation.steps import Steps

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
        """Return texts that go on from prompts.

        How they are searched for is said by the parameters of `GenerationConfig`: those among `kwargs`, else those of
        `generation_config`, else the model's own. B prompts of P tokens become R rows, B times the beams, of L tokens
        so far; V is the size of the vocabulary. What is computed in which way, and what is refused: docs/generation.md.

        Args:
            inputs: the prompts, int [B, P]: of a decoder, padded on the left, or what an encoder reads. They may be
                passed by the model's name for them instead, or as `inputs_embeds`; where there are none, `bos_token_id`
                is the prompt.
            generation_config: a `GenerationConfig`, or a mapping, in the place of the model's own.
            logits_processor: processors of your own, called with `(input_ids, scores)`, int [R, L] and float [R, V];
                they return new scores. They come after those that the config asks for, and before temperature, top_k
                and the like.
            stopping_criteria: called after each token with `(input_ids, scores)`, int [R, L] and a tuple of the scores
                that are kept, or None; they return a bool, or bool [R]: which rows end.
            prefix_allowed_tokens_fn: from the number of a prompt in the batch and its tokens so far, int [L], to a list
                of those that may come next.
            synced_gpus: None: True is refused.
            assistant_model: a smaller model of the same vocabulary that proposes tokens, for one text. Greedy search
                and `seed` give the text that there is without one; draws of PyTorch's own generator give another, of
                the same distribution.
            streamer: gets the prompts and then each token, by `put` and `end`; or a function of the new tokens alone,
                NumPy's int [R].
            negative_prompt_ids, negative_prompt_attention_mask: int [B, N], what `guidance_scale` leads away from; by
                default the last token of each prompt.
            use_model_defaults: whether parameters that `generation_config` leaves at their defaults are the model's;
                None: if transformers 4.50 or later saved these. Special tokens are always.
            custom_generate: None: code of a repository is not run.
            seed: an integer from 0 to 2^64 - 1, by which tokens are drawn: Threefry-2x32 (Salmon et al., "Parallel
                random numbers: as easy as 1, 2, 3", 2011), the same text in the three frameworks. None: PyTorch's own
                generator.
            tokenizer: needed by `stop_strings` and `token_healing`.
            kwargs: parameters of the config, and further inputs of the model, such as `attention_mask`, int [B, P].

        Returns:
            int64 [B * num_return_sequences, L]: the prompts (where there is an encoder: the decoder's first tokens),
            what was generated, and padding behind it. With `return_dict_in_generate=True` an output of
            `triptych.generation.outputs`, which has this as `sequences`.

        Raises:
            ArgumentError: an argument is impossible or unknown, the prompts have a wrong shape or leave no room, or
                what is asked for is not to be had.
            ConfigError: parameters that cannot be meant, or that contradict each other.
            MissingMethodError: the class does not score the next token.
        """
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
    """A base class that says that a model generates, as in transformers 4: `can_generate` is True of a class that
    derives from it. `PreTrainedModel` has all its methods: `generate`, what authors override for it
    (`prepare_inputs_for_generation`, `_update_model_kwargs_for_generation`, `_reorder_cache`, ...),
    `compute_transition_scores` and `heal_tokens`."""


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
