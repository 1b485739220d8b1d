"""Texts that a model writes: the same in every framework, with a cache and without, and as the parameters ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from triptych.errors import TriptychError
from triptych_conformance.parity import Backend
from triptych_conformance.suite.base import Inputs, SubjectTests, needs
from triptych_conformance.suite.features import FEATURES
from triptych_conformance.suite.subject import Subject
from triptych_conformance.tolerance import assert_close, compare

NEW = 6
"""How many tokens are written."""
COMPILED: dict[str, dict[str, Any]] = {"tf": {"jit_compile": True}, "flax": {}}
EAGER: dict[str, dict[str, Any]] = {"flax": {"trace": False}}
"""How a search is compiled as a whole, and how it is not."""


class GreedyTests(SubjectTests):
    """What `generate` writes after `make_prompts` by the likeliest tokens, `NEW` of them, with no end."""

    @needs("generation")
    def test_greedy_texts_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        one, other = (greedy(subject, backend) for backend in pair)
        assert_same_texts(subject, other, one)

    @needs("generation")
    def test_greedy_texts_are_those_of_the_origin(self, subject: Subject, backend: Backend, origin: Any) -> None:
        expected = origin.written(max_new_tokens=NEW, do_sample=False, **settings(subject))
        assert_same_texts(subject, greedy(subject, backend), expected)

    @needs("generation")
    def test_scores_of_tokens_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        one, other = (scored(subject, backend) for backend in pair)
        assert_same_texts(subject, other["text"], one["text"])
        assert_close(other["scores"], one["scores"], what="scores of tokens")

    @needs("generation")
    def test_tokens_are_the_likeliest_of_a_call(self, subject: Subject, backend: Backend) -> None:
        """Of one call that reads the whole text; where a token sees those after it, of one for the first token and one
        for the last, which read what stands before it."""
        text, begins = greedy(subject, backend), start_of(subject, backend)
        scores = scored(subject, backend)["scores"]
        if FEATURES["cache"][1](subject, backend):
            assert_close(logits_of(subject, backend, text[:, :-1])[:, -NEW:], scores, what="scores of tokens")
            return
        for step in (0, NEW - 1):
            found = logits_of(subject, backend, text[:, : begins + step])[:, -1]
            assert_close(found, scores[:, step], what=f"scores of token {step}")

    @needs("generation", "cache")
    def test_a_cache_changes_nothing(self, subject: Subject, backend: Backend) -> None:
        found = scored(subject, backend, use_cache=False)
        assert_same_texts(subject, found["text"], greedy(subject, backend))
        assert_close(found["scores"], scored(subject, backend)["scores"], what="scores of tokens")


class GenerationTests(GreedyTests):
    """All ways in which texts are written."""

    @needs("generation", "init_cache")
    def test_calls_with_a_cache_compute_what_one_call_does(self, subject: Subject, backend: Backend) -> None:
        """The prompt, and then single tokens, each after those in the cache."""
        text, begins = greedy(subject, backend), start_of(subject, backend)
        parts = [slice(0, begins), *(slice(place, place + 1) for place in range(begins, begins + 3))]
        found = np.concatenate(logits_by_parts(subject, backend, text, parts), 1)
        assert_close(found, logits_of(subject, backend, text[:, : begins + 3]), what="logits")

    @needs("generation")
    def test_texts_go_on(self, subject: Subject, backend: Backend) -> None:
        """A text that was cut off is written to the same end."""
        text, begun = greedy(subject, backend), start_of(subject, backend) + 2
        name = "decoder_input_ids" if subject.config.is_encoder_decoder else "input_ids"
        prompts = {**subject.prompts, name: text[:, :begun]}
        assert_same_texts(subject, written(subject, backend, prompts, max_new_tokens=NEW - 2), text)

    @needs("generation")
    def test_max_new_tokens(self, subject: Subject, backend: Backend) -> None:
        text, begins = greedy(subject, backend), start_of(subject, backend)
        assert text.shape[1] == begins + NEW
        found = written(subject, backend, max_new_tokens=2)
        assert found.shape[1] == begins + 2
        assert_same_texts(subject, found, text[:, : begins + 2])

    @needs("generation")
    def test_texts_end_with_their_end_token(self, subject: Subject, backend: Backend) -> None:
        """And are padded from there on."""
        text, begins, pad = greedy(subject, backend), start_of(subject, backend), settings(subject)["pad_token_id"]
        end = int(text[0, begins + 2])
        expected = text.copy()
        for row in expected[:, begins:]:
            row[np.cumsum(row == end) - (row == end) > 0] = pad
        found = written(subject, backend, eos_token_id=[end])
        assert_same_texts(subject, found, expected[:, : found.shape[1]])
        assert (expected[:, found.shape[1] :] == pad).all()

    @needs("generation", "attention_mask")
    def test_padding_of_prompts_changes_nothing(self, subject: Subject, backend: Backend) -> None:
        """On the left, or of what an encoder reads, on the right."""
        prompts, pad = subject.prompts, settings(subject)["pad_token_id"]
        ids, right = prompts["input_ids"], subject.config.is_encoder_decoder
        sides = ((0, 0), (0, 2) if right else (2, 0))
        mask = prompts.get("attention_mask", np.ones_like(ids))
        padded = {
            **prompts,
            "input_ids": np.pad(ids, sides, constant_values=pad),
            "attention_mask": np.pad(mask, sides),
        }
        for name in ("token_type_ids", "position_ids"):
            if name in prompts:
                padded[name] = np.pad(prompts[name], sides)
        found = written(subject, backend, padded)
        assert_same_texts(subject, found if right else found[:, 2:], greedy(subject, backend))

    @needs("generation")
    def test_beams_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        one, other = (written(subject, backend, num_beams=3, num_return_sequences=2) for backend in pair)
        assert one.shape[0] == 2 * len(greedy(subject, pair[0]))
        np.testing.assert_array_equal(other, one)

    @needs("generation")
    def test_draws_of_a_seed_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        one, other = (written(subject, backend, do_sample=True, top_k=0, seed=1) for backend in pair)
        np.testing.assert_array_equal(other, one)

    @needs("generation")
    def test_draws_of_seeds_differ(self, subject: Subject) -> None:
        one, other = (written(subject, subject.reference, do_sample=True, top_k=0, seed=seed) for seed in (1, 2))
        assert one.shape == other.shape and not np.array_equal(one, other)

    @needs("generation")
    def test_compiled_texts_are_those_of_a_loop(self, subject: Subject, other: Backend) -> None:
        found = written(subject, other, **COMPILED[other.name])
        assert_same_texts(subject, found, scored(subject, other)["text"])

    @needs("generation")
    def test_outputs_hold_the_texts(self, subject: Subject, backend: Backend) -> None:
        found = generated(subject, backend, subject.prompts, max_new_tokens=NEW, return_dict_in_generate=True)
        assert_same_texts(subject, np.asarray(found["sequences"]), greedy(subject, backend))

    @needs("generation")
    @pytest.mark.parametrize(
        "options",
        [{"max_new_tokens": -1}, {"num_beams": 0}, {"no_such_argument": 1}, {"temperature": "x", "do_sample": True}],
        ids=lambda options: next(iter(options)),
    )
    def test_impossible_parameters_are_refused(
        self, subject: Subject, backend: Backend, options: dict[str, Any]
    ) -> None:
        with pytest.raises(TriptychError, match=next(iter(options))):
            generated(subject, backend, subject.prompts, **{"max_new_tokens": NEW, **options})


def settings(subject: Subject) -> dict[str, Any]:
    """Return parameters without which texts would end, or not begin, as chance has it."""
    config = subject.config
    pad = config.pad_token_id if isinstance(config.pad_token_id, int) else 0
    start = {} if config.decoder_start_token_id is not None else {"decoder_start_token_id": pad}
    return {"pad_token_id": pad, **(start if config.is_encoder_decoder else {})}


def generated(subject: Subject, backend: Backend, prompts: Inputs, **options: Any) -> Any:
    """Return what `generate` of the shared model returns."""
    given = {name: _native(backend, value) for name, value in prompts.items()}
    return subject.model(backend).generate(**given, **{"eos_token_id": [], **settings(subject), **options})


def _native(backend: Backend, array: np.ndarray) -> Any:
    if backend.name != "pt":
        return array
    import torch

    return torch.tensor(array)


def written(subject: Subject, backend: Backend, prompts: Inputs | None = None, **options: Any) -> np.ndarray:
    """Return the texts [R, L] after `prompts`, by default those of the subject, for each choice of options once."""
    given = subject.prompts if prompts is None else prompts

    def compute() -> dict[str, np.ndarray]:
        found = generated(subject, backend, given, **{"max_new_tokens": NEW, "do_sample": False, **options})
        return {"text": np.asarray(getattr(found, "sequences", found))}

    what = repr((sorted(options.items()), {name: value.tolist() for name, value in given.items()}))
    return subject.once(what, backend, compute)["text"]


def greedy(subject: Subject, backend: Backend) -> np.ndarray:
    return written(subject, backend)


def scored(subject: Subject, backend: Backend, **options: Any) -> dict[str, np.ndarray]:
    """Return the greedy "text" [B, L] and the "scores" [B, NEW, V] of its tokens."""

    def compute() -> dict[str, np.ndarray]:
        asked = {"max_new_tokens": NEW, "do_sample": False, "return_dict_in_generate": True, "output_scores": True}
        found = generated(subject, backend, subject.prompts, **asked, **EAGER.get(backend.name, {}), **options)
        scores = found["scores"]
        return {"text": np.asarray(found["sequences"]), "scores": np.stack([np.asarray(one) for one in scores], 1)}

    return subject.once(f"scores {options}", backend, compute)


def start_of(subject: Subject, backend: Backend) -> int:
    """Return how many tokens stand before those that are written."""
    return greedy(subject, backend).shape[1] - NEW


def logits_of(subject: Subject, backend: Backend, text: np.ndarray) -> np.ndarray:
    """Return the logits [B, L, V] of one call that reads `text` [B, L], and has no cache."""
    model = subject.model(backend)
    options = {"use_cache": False} if backend.takes(model, "use_cache") else {}
    return backend.run(model, _reading(subject, text), **options)["logits"]


def logits_by_parts(subject: Subject, backend: Backend, text: np.ndarray, parts: Sequence[slice]) -> list[np.ndarray]:
    """Return the logits [B, Q, V] of each part of `text` [B, L], read after those before it."""
    model = subject.model(backend)
    cache, found = model.init_cache(len(text), text.shape[1]), []
    for part in parts:
        output = backend.call(model, _reading(subject, text[:, part]), past_key_values=cache)
        cache = output["past_key_values"]
        found.append(np.asarray(output["logits"], np.float32))
    return found


def _reading(subject: Subject, text: np.ndarray) -> Inputs:
    prompts, ids = subject.prompts, "decoder_input_ids" if subject.config.is_encoder_decoder else "input_ids"
    return {**prompts, ids: text}


def assert_same_texts(subject: Subject, found: np.ndarray, expected: np.ndarray) -> None:
    """Raise AssertionError unless texts [B, L] are the same, up to where two tokens of the reference's greedy text are
    equally likely, by the rule of tolerance.

    Args:
        begins: the column of the first token that was written; default: behind the prompt.
    """
    assert found.shape == expected.shape, f"texts of shape {found.shape}, where {expected.shape} was expected"
    if np.array_equal(found, expected):
        return
    scores = scored(subject, subject.reference)["scores"]
    begins = start_of(subject, subject.reference)
    for row, (one, other) in enumerate(zip(found, expected, strict=True)):
        if (one == other).all():
            continue
        place = int(np.argmax(one != other))
        said = f"row {row} departs at token {place - begins}: {one[place]}, where {other[place]} was expected"
        assert 0 <= place - begins < scores.shape[1], said
        likely = scores[row, place - begins]
        distance = compare([*likely, likely[one[place]]], [*likely, likely[other[place]]])
        assert distance.fraction <= 1, f"{said} (in the reference their scores are {distance})"
