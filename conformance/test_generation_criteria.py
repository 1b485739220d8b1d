"""Criteria and streamers take the arrays of each framework as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from small_tokenizer import small_tokenizer
from triptych import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList, StopStringCriteria, TextStreamer
from triptych.generation.stopping import stopped
from triptych_conformance import Backend


def native(backend: Backend, array: np.ndarray) -> Any:
    if backend.name == "pt":
        return torch.from_numpy(array)
    if backend.name == "tf":
        import tensorflow as tf

        return tf.constant(array)
    import jax.numpy as jnp

    return jnp.asarray(array)


def test_criteria(backend: Backend) -> None:
    tokenizer = small_tokenizer()
    end = tokenizer.token_to_id("</s>")
    rows = [tokenizer.encode("the stop").ids[-2:], [5, end], [5, 6]]
    ids = native(backend, np.array([[*row, 0, 0] for row in rows], np.int32))
    criteria = StoppingCriteriaList([EosTokenCriteria(end), StopStringCriteria(tokenizer, "stop")])
    assert stopped(criteria, ids, None, 2).tolist() == [True, True, False]
    own = StoppingCriteriaList([lambda input_ids, scores: input_ids[:, -1] == 6])
    assert stopped(own, ids, None, 2).tolist() == [False, False, True]
    assert stopped(StoppingCriteriaList([MaxLengthCriteria(2)]), ids, None, 2).all()


def test_in_pytorch_they_are_combined_as_tensors() -> None:
    ids = torch.tensor([[5, 6], [5, 7]])
    found = EosTokenCriteria(torch.tensor([7]))(ids, None) | torch.tensor([False, False])
    assert found.dtype == torch.bool and found.tolist() == [False, True]
    every = StoppingCriteriaList([MaxLengthCriteria(2)])(ids, None)
    assert isinstance(every, torch.Tensor) and every.shape == (2,) and every.dtype == torch.bool


def test_streamers(backend: Backend, capsys: Any) -> None:
    tokenizer = small_tokenizer()
    tokens = np.array(tokenizer.encode("last stop the").ids)
    streamer = TextStreamer(tokenizer)
    streamer.put(native(backend, tokens[None, :2]))
    for token in tokens[2:]:
        streamer.put(native(backend, np.array([token])))
    streamer.end()
    assert capsys.readouterr().out == "last stop the\n"
