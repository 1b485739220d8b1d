"""Criteria end rows where they should: by length, time, tokens, and strings wherever these begin and end in a token."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast
from transformers import StopStringCriteria as Theirs

from small_tokenizer import small_tokenizer
from triptych import (
    ArgumentError,
    ConfidenceCriteria,
    EosTokenCriteria,
    GenerationConfig,
    MaxLengthCriteria,
    MaxTimeCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)
from triptych.generation.stopping import criteria_of, stopped

IDS = np.array([[5, 6, 7], [5, 6, 8]])


def ids_of(*tokens: str) -> np.ndarray:
    """Return one row of tokens that are spelled as text."""
    tokenizer = small_tokenizer()
    found = [tokenizer.token_to_id(token.replace(" ", "Ġ")) for token in tokens]
    assert None not in found
    return np.array([found])


def test_length() -> None:
    assert MaxLengthCriteria(3)(IDS, None).tolist() == [True, True]
    assert MaxLengthCriteria(4)(IDS, None).tolist() == [False, False]


def test_going_beyond_the_positions_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    criterion = MaxLengthCriteria(9, max_position_embeddings=3)
    for _ in range(2):
        assert not criterion(IDS, None).any()
    assert [record.getMessage() for record in caplog.records] == [
        "generation goes beyond the 3 positions that the model knows"
    ]


def test_time() -> None:
    assert MaxTimeCriteria(5, initial_timestamp=time.time() - 6)(IDS, None).all()
    assert not MaxTimeCriteria(600)(IDS, None).any()


@pytest.mark.parametrize(
    ("eos", "expected"), [(7, [True, False]), ([7, 8], [True, True]), (np.array([6]), [False, False])]
)
def test_tokens_that_end_a_text(eos: Any, expected: list[bool]) -> None:
    assert EosTokenCriteria(eos)(IDS, None).tolist() == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (("st", "op"), True),
        (("stop",), True),
        (("st", "op", "er"), False),  # ended before the last token
        (("sto", "p"), True),
        (("sto", "pp"), True),
        (("last", "op"), True),
        (("las", "topper"), True),
        (("last", "topper"), False),
        (("a", "s", "topper"), True),
        (("s", "t", "op"), True),
        (("stop", "stop"), True),
        (("op", "st"), False),
        ((" stop",), True),
    ],
)
def test_a_stop_string_within_tokens(tokens: tuple[str, ...], expected: bool) -> None:
    assert StopStringCriteria(small_tokenizer(), "stop")(ids_of(*tokens), None).tolist() == [expected]


def test_a_character_of_several_tokens_ends_a_stop_string() -> None:
    tokenizer = small_tokenizer()
    tokens = tokenizer.encode("nah né").ids
    assert len(tokenizer.encode("é").ids) == 2
    criterion = StopStringCriteria(tokenizer, ["é"])
    assert [bool(criterion(np.array([tokens[:n]]), None)[0]) for n in range(1, len(tokens) + 1)] == [
        *[False] * (len(tokens) - 1),
        True,
    ]


def test_special_tokens_are_text_too() -> None:
    tokenizer = small_tokenizer()
    ids = np.array([tokenizer.encode("a</s>").ids, tokenizer.encode("a<s>").ids])
    assert StopStringCriteria(tokenizer, "</s>")(ids, None).tolist() == [True, False]


def test_stop_strings_are_found_where_transformers_finds_them() -> None:
    tokenizer = small_tokenizer()
    theirs_tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    letters = [token for token in "stopperal \nne" for token in tokenizer.encode(token).ids]
    words = list(range(256, tokenizer.get_vocab_size() - 2))
    ids = np.random.default_rng(0).choice([*letters, *words], (300, 8))
    for stops in (["stop"], ["op", "ne"], ["\n\n", "stopp"], ["p"]):
        expected = Theirs(theirs_tokenizer, stops)(torch.tensor(ids), None)
        assert 0 < expected.sum() < 300
        for tokenizer_of in (tokenizer, theirs_tokenizer):
            assert StopStringCriteria(tokenizer_of, stops)(ids, None).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("stops", "tokenizer", "match"),
    [
        ([], small_tokenizer(), "stop_strings is impossible"),
        ([""], small_tokenizer(), "none of them empty"),
        ([3], small_tokenizer(), "texts"),
        (["a"], None, "pass tokenizer="),
    ],
)
def test_impossible_stop_strings_are_refused(stops: Any, tokenizer: Any, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        StopStringCriteria(tokenizer, stops)


def test_confidence() -> None:
    sure = (np.array([[9.0, 0, 0]]), np.array([[0.0, np.log(3), -np.inf]]))
    ids = np.array([[2, 1]])
    assert ConfidenceCriteria(0.74)(ids, sure) is False
    assert ConfidenceCriteria(0.76)(ids, sure) is True
    assert ConfidenceCriteria(0.76)(ids, sure[-1]) is True
    with pytest.raises(ArgumentError, match="output_scores"):
        ConfidenceCriteria(0.5)(ids, None)


class FirstRow(StoppingCriteria):
    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return np.arange(input_ids.shape[0]) == 0


def test_any_criterion_ends_a_row() -> None:
    criteria = StoppingCriteriaList([EosTokenCriteria(8), FirstRow(), lambda ids, scores: False])
    assert criteria(IDS, None).tolist() == [True, True]
    assert StoppingCriteriaList([FirstRow()])(IDS, None).tolist() == [True, False]
    assert StoppingCriteriaList()(IDS, None).tolist() == [False, False]
    assert criteria.max_length is None and StoppingCriteriaList([MaxLengthCriteria(4)]).max_length == 4


@pytest.mark.parametrize("answer", [None, 1, np.array([True, False, True]), np.array([1, 0])])
def test_a_criterion_that_says_nothing_of_the_rows_is_refused(answer: Any) -> None:
    with pytest.raises(ArgumentError, match="says nothing of the rows"):
        StoppingCriteriaList([lambda ids, scores: answer])(IDS, None)


def test_only_what_is_written_of_a_buffer_is_looked_at() -> None:
    ids = np.array([[5, 6, 0, 0], [5, 7, 0, 0]])
    assert stopped(StoppingCriteriaList([EosTokenCriteria(7), MaxLengthCriteria(3)]), ids, None, 2).tolist() == [
        False,
        True,
    ]


def test_a_config_says_which_criteria_there_are() -> None:
    own = FirstRow()
    config = GenerationConfig(max_time=2.5, stop_strings="stop", max_length=9)
    criteria = criteria_of(config, small_tokenizer(), [own])
    assert [type(one) for one in criteria] == [MaxTimeCriteria, StopStringCriteria, FirstRow]
    assert criteria[0].max_time == 2.5 and criteria[1].stop_strings == ("stop",) and criteria[2] is own
    assert criteria_of(GenerationConfig()) == []
    with pytest.raises(ArgumentError, match="pass tokenizer="):
        criteria_of(config)
    with pytest.raises(ArgumentError, match="a function"):
        criteria_of(GenerationConfig(), given=["stop"])


def test_a_subclass_without_a_call_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Mine has no __call__"):
        type("Mine", (StoppingCriteria,), {})()(IDS, None)
