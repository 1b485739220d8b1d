"""Token healing: the last token of a prompt, which the end of the text may have cut off, is chosen anew, among those
that begin like it."""

from __future__ import annotations

from typing import Any

from triptych.errors import ArgumentError
from triptych.generation.config import GenerationConfig
from triptych.generation.on_host import on_host

_BIAS, _OWN = 10.0, 11.0
"""What tokens that begin like the last one have more than others, and what that one itself has."""


def healed(model: Any, ids: Any, tokenizer: Any, params: Any = None) -> tuple[Any, Any]:
    """Return prompts whose last token may be a longer one, on a decoder that generates.

    Args:
        ids: prompts [B, P], as the tokenizer makes them of their text without spaces around it.
        tokenizer: the model's; its texts of tokens and its padding are read.
        params: of a model that holds none.

    Returns:
        Prompts [B, P'], padded as the tokenizer does, and which of their tokens count, 1 or 0: lists of lists.

    Raises:
        ArgumentError: there is no tokenizer, or it has no token for padding.
    """
    if tokenizer is None or getattr(tokenizer, "pad_token_id", None) is None:
        raise ArgumentError("Prompts are healed by their tokenizer.", expected="tokenizer=, one with a pad_token_id")
    pad = tokenizer.pad_token_id
    texts = [text.strip() for text in tokenizer.batch_decode(on_host(ids).tolist(), skip_special_tokens=True)]
    rows = [list(row) for row in tokenizer(texts, padding=True)["input_ids"]]
    rows = [[pad if token == tokenizer.bos_token_id else token for token in row] for row in rows]
    pieces = {token: text for text, token in tokenizer.get_vocab().items()}
    options = {} if params is None else {"params": params}
    rows = [_healed_row(model, row, pieces, tokenizer, options) for row in rows]
    return rows, [[int(token != pad) for token in row] for row in rows]


def _healed_row(model: Any, row: list[int], pieces: dict[int, str], tokenizer: Any, options: Any) -> list[int]:
    pad, bos = tokenizer.pad_token_id, tokenizer.bos_token_id
    if not row or row[-1] == pad or (last := pieces.get(row[-1])) is None:
        return row
    like = [token for token, piece in pieces.items() if piece.startswith(last)]
    before = row[:-1]
    if len(like) < 2 or not before:
        return row
    if bos is not None and all(token == pad for token in before):  # nothing else is there: go on from the beginning
        before[-1] = bos
    bias = {(token,): _OWN if token == row[-1] else _BIAS for token in like}
    config = GenerationConfig(max_new_tokens=1, pad_token_id=pad, sequence_bias=bias)
    found = model.generate(model._as_ids([before]), generation_config=config, use_model_defaults=False, **options)
    return [int(token) for token in on_host(getattr(found, "sequences", found))[0]]
