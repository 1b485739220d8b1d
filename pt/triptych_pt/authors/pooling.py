"""Heads that models of others are made of: a summary of a text, and where an answer starts and ends.

B batch, Q tokens, H hidden; `p_mask` [B, Q] is 1 at tokens that cannot be part of an answer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from triptych.errors import ArgumentError
from triptych.nn.outputs import ModelOutput
from triptych_pt.authors.activations import get_activation


class SequenceSummary(nn.Module):
    """One vector of a text, as fields of the config say: `summary_type` ("last", "first", "mean" or "cls_index"),
    `summary_use_proj`, `summary_proj_to_labels`, `summary_activation`, `summary_first_dropout`, `summary_last_dropout`.

    Raises:
        ArgumentError: another type.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.summary_type = getattr(config, "summary_type", "last")
        if self.summary_type not in ("last", "first", "mean", "cls_index"):
            raise ArgumentError(
                "This summary_type is not made.", expected="last, first, mean or cls_index",
                received=repr(self.summary_type),
            )  # fmt: skip
        self.summary: nn.Module = nn.Identity()
        if getattr(config, "summary_use_proj", False):
            to_labels = getattr(config, "summary_proj_to_labels", False) and config.num_labels > 0
            self.summary = nn.Linear(config.hidden_size, config.num_labels if to_labels else config.hidden_size)
        name = getattr(config, "summary_activation", None)
        self.activation: Any = get_activation(name) if name else nn.Identity()
        first, last = (getattr(config, f"summary_{where}_dropout", 0) for where in ("first", "last"))
        self.first_dropout = nn.Dropout(first) if first > 0 else nn.Identity()
        self.last_dropout = nn.Dropout(last) if last > 0 else nn.Identity()

    def forward(self, hidden_states: torch.Tensor, cls_index: torch.Tensor | None = None) -> torch.Tensor:
        """Return [B, ..., H or labels] of hidden states [B, ..., Q, H].

        Args:
            cls_index: of "cls_index", the place of its token, [B, ...]; the last by default.
        """
        if self.summary_type == "mean":
            output = hidden_states.mean(dim=1)
        elif self.summary_type == "cls_index" and cls_index is not None:
            output = _at(hidden_states, cls_index)
        elif self.summary_type == "cls_index":
            output = hidden_states[..., -1, :]
        else:
            output = hidden_states[:, 0 if self.summary_type == "first" else -1]
        return self.last_dropout(self.activation(self.summary(self.first_dropout(output))))


class PoolerStartLogits(nn.Module):
    """Scores [B, Q] of each token as the start of the answer, of hidden states [B, Q, H]."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, 1)

    def forward(self, hidden_states: torch.Tensor, p_mask: torch.Tensor | None = None) -> torch.Tensor:
        return _without(self.dense(hidden_states).squeeze(-1), p_mask)


class PoolerEndLogits(nn.Module):
    """Scores [B, Q] of each token as the end of the answer that starts at a token."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense_0 = nn.Linear(config.hidden_size * 2, config.hidden_size)
        self.activation = nn.Tanh()
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dense_1 = nn.Linear(config.hidden_size, 1)

    def forward(
        self,
        hidden_states: torch.Tensor,
        start_states: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        p_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scores, given the hidden states of the start [B, Q, H], or its place [B].

        Raises:
            ArgumentError: neither is given.
        """
        if start_positions is not None:
            start_states = _at(hidden_states, start_positions)[:, None].expand_as(hidden_states)
        if start_states is None:
            raise ArgumentError("Where does the answer start?", expected="start_states or start_positions")
        x = self.activation(self.dense_0(torch.cat([hidden_states, start_states], dim=-1)))
        return _without(self.dense_1(self.LayerNorm(x)).squeeze(-1), p_mask)


class PoolerAnswerClass(nn.Module):
    """A score [B] of whether there is an answer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense_0 = nn.Linear(config.hidden_size * 2, config.hidden_size)
        self.activation = nn.Tanh()
        self.dense_1 = nn.Linear(config.hidden_size, 1, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        start_states: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        cls_index: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scores, given the hidden state of the start [B, H], or its place [B].

        Raises:
            ArgumentError: neither is given.
        """
        if start_positions is not None:
            start_states = _at(hidden_states, start_positions)
        if start_states is None:
            raise ArgumentError("Where does the answer start?", expected="start_states or start_positions")
        token = hidden_states[:, -1] if cls_index is None else _at(hidden_states, cls_index)
        return self.dense_1(self.activation(self.dense_0(torch.cat([start_states, token], dim=-1)))).squeeze(-1)


class SquadHeadOutput(ModelOutput):
    """`loss` (scalar, with both positions); else the best starts [B, n], their ends [B, n * m], and
    `cls_logits` [B]."""

    loss: Any
    start_top_log_probs: Any
    start_top_index: Any
    end_top_log_probs: Any
    end_top_index: Any
    cls_logits: Any


class SQuADHead(nn.Module):
    """Question answering by a beam: `config.start_n_top` starts, and `config.end_n_top` ends of each."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.start_n_top, self.end_n_top = config.start_n_top, config.end_n_top
        self.start_logits = PoolerStartLogits(config)
        self.end_logits = PoolerEndLogits(config)
        self.answer_class = PoolerAnswerClass(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        cls_index: torch.Tensor | None = None,
        is_impossible: torch.Tensor | None = None,
        p_mask: torch.Tensor | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss, with start and end positions [B], else the beam."""
        starts = self.start_logits(hidden_states, p_mask)
        if start_positions is not None and end_positions is not None:
            start, end = (places.reshape(-1) for places in (start_positions, end_positions))
            ends = self.end_logits(hidden_states, start_positions=start, p_mask=p_mask)
            loss = (nn.functional.cross_entropy(starts, start) + nn.functional.cross_entropy(ends, end)) / 2
            if cls_index is not None and is_impossible is not None:
                logits = self.answer_class(hidden_states, start_positions=start, cls_index=cls_index)
                loss = loss + 0.5 * nn.functional.binary_cross_entropy_with_logits(logits, is_impossible.to(logits))
            return SquadHeadOutput(loss=loss) if return_dict else (loss,)
        best, places = starts.softmax(dim=-1).topk(self.start_n_top, dim=-1)
        states = hidden_states.gather(1, places[..., None].expand(-1, -1, hidden_states.shape[-1]))  # [B, n, H]
        each = hidden_states[:, None].expand(-1, self.start_n_top, -1, -1)  # [B, n, Q, H]
        mask = None if p_mask is None else p_mask[:, None]
        ends = self.end_logits(each, states[:, :, None].expand_as(each), p_mask=mask).softmax(dim=-1)  # [B, n, Q]
        # The ends of all starts are listed by rank, and within a rank by start.
        found, ranked = (part.transpose(1, 2).flatten(1) for part in ends.topk(self.end_n_top, dim=-1))
        average = torch.einsum("blh,bl->bh", hidden_states, starts.softmax(dim=-1))
        output = SquadHeadOutput(
            start_top_log_probs=best, start_top_index=places, end_top_log_probs=found, end_top_index=ranked,
            cls_logits=self.answer_class(hidden_states, start_states=average, cls_index=cls_index),
        )  # fmt: skip
        return output if return_dict else output.to_tuple()


def _at(hidden_states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the states [B, ..., H] at `places` [B, ...] of [B, ..., Q, H]."""
    index = places[..., None, None].expand(*(-1,) * places.dim(), 1, hidden_states.shape[-1])
    return hidden_states.gather(-2, index).squeeze(-2)


def _without(scores: torch.Tensor, p_mask: torch.Tensor | None) -> torch.Tensor:
    """Return the scores, very low where `p_mask` is 1."""
    if p_mask is None:
        return scores
    return scores * (1 - p_mask) - (65500 if scores.dtype is torch.float16 else 1e30) * p_mask
