"""Resizing the vocabulary and pruning heads: the same weights in every framework, of a live model and of its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.config.base import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.tools import editing
from triptych.weights.schema import Layout
from triptych.weights.surgery import HEADS, VOCAB
from triptych_conformance.parity import Backend
from triptych_conformance.suite.arrays import are_others, assert_close_outputs, assert_same
from triptych_conformance.suite.base import Inputs, SubjectTests, needs
from triptych_conformance.suite.construction import SAVED
from triptych_conformance.suite.subject import Subject

SIZES = pytest.mark.parametrize("rows", ["more", "fewer"])


@dataclass(frozen=True)
class Changed:
    """What is known of a model after surgery: weights by name, outputs, its config, and the folder it was saved to."""

    weights: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    config: Mapping[str, Any]
    folder: Path


class SurgeryTests(SubjectTests):
    """What changes the shapes of weights."""

    # -- the vocabulary -------------------------------------------------------------------------------------------

    @needs("vocabulary")
    @SIZES
    def test_resized_vocabulary(self, subject: Subject, backend: Backend, rows: str) -> None:
        """Old rows stay, bit for bit, and so does every other weight; new rows of matrices lie around their mean."""
        count, changed = _rows(subject, rows), _resized(subject, backend, rows)
        for weight in subject.model(backend).schema.stored():
            before, after = subject.weights(backend)[weight.name], changed.weights[weight.name]
            axis = weight.axis_index(VOCAB)
            if axis is None:
                assert np.array_equal(after, before), f"{weight.name} has no rows of words, and is another one now"
                continue
            after, before = np.moveaxis(after, axis, 0), np.moveaxis(before, axis, 0)
            assert after.shape == (count, *before.shape[1:]), weight.name
            kept = min(len(before), count)
            assert np.array_equal(after[:kept], before[:kept]), f"old rows of {weight.name} are others now"
            if weight.layout in (Layout.EMBEDDING, Layout.LINEAR) and count > kept:
                away = np.abs(after[kept:] - before.mean(0)).max()
                assert away <= 1e-3 * np.abs(before).max(), f"new rows of {weight.name} lie {away} from the mean"

    @needs("vocabulary")
    @SIZES
    def test_resized_vocabularies_agree(self, subject: Subject, pair: tuple[Backend, Backend], rows: str) -> None:
        _assert_agree(subject, *(_resized(subject, backend, rows) for backend in pair))

    @needs("vocabulary")
    def test_resized_model_loads_elsewhere(self, subject: Subject, backend: Backend) -> None:
        _assert_loads(subject, backend, lambda saver: _resized(subject, saver, "more"))

    @needs("vocabulary")
    def test_vocabulary_padded_to_a_multiple(self, subject: Subject, backend: Backend) -> None:
        model, size = subject.fresh(backend), _vocab_size(subject.config)
        model.resize_token_embeddings(pad_to_multiple_of=size + 9)
        assert _vocab_size(model.config) == size + 9
        assert_same(subject.weights(backend, model), _resized(subject, backend, "more").weights, "padded to a multiple")
        model.resize_token_embeddings(size - 1, pad_to_multiple_of=size)
        assert _vocab_size(model.config) == size
        assert_same(subject.weights(backend, model), subject.weights(backend), "as small as it was again")

    @needs("vocabulary")
    def test_vocabulary_of_the_same_size(self, subject: Subject, backend: Backend) -> None:
        model, size = _unharmed(subject, backend), _vocab_size(subject.config)
        for options in ({}, {"new_num_tokens": size}, {"pad_to_multiple_of": size}):
            model.resize_token_embeddings(**options)
            _assert_unchanged(subject, backend, model)

    @needs("vocabulary")
    def test_impossible_sizes_change_nothing(self, subject: Subject, backend: Backend) -> None:
        model = _unharmed(subject, backend)
        for size in (0, -1, 2**40, 1.5, True, "9"):
            for name in ("new_num_tokens", "pad_to_multiple_of"):
                _assert_refused(f"{name}={size!r}", partial(model.resize_token_embeddings, **{name: size}))
        _assert_unchanged(subject, backend, model)

    @needs("set_embeddings")
    def test_embeddings_are_replaced(self, subject: Subject, backend: Backend) -> None:
        """The new table is what the model holds, saves and computes with, and what is tied to it follows."""
        model, before = subject.fresh(backend), subject.weights(backend)
        model.set_input_embeddings(_TWICE[backend.name](subject.fresh(backend)))
        model.tie_weights()
        after = subject.weights(backend, model)
        others = [name for name, array in after.items() if not np.array_equal(array, before[name])]
        assert len(others) == 1, f"the table is one weight, and these are others now: {others}"
        assert np.array_equal(after[others[0]], 2 * before[others[0]])
        again = subject.cls(backend).from_pretrained(None, config=subject.config, state_dict=after)
        assert_close_outputs(backend.run(model, subject.inputs), backend.run(again, subject.inputs), subject.mask)

    @needs("declared", "vocabulary")
    @SIZES
    def test_resized_file_is_the_resized_model(self, subject: Subject, rows: str) -> None:
        draft = editing.resize(editing.open_draft(subject.folder), _rows(subject, rows))
        _assert_is(draft, _resized(subject, subject.reference, rows), subject)

    # -- heads ----------------------------------------------------------------------------------------------------

    @needs("heads")
    def test_pruned_heads(self, subject: Subject, backend: Backend) -> None:
        changed, heads = _pruned(subject, backend), subject.heads
        assert changed.config["pruned_heads"] == {str(layer): sorted(numbers) for layer, numbers in heads.items()}
        before = subject.weights(backend)
        grown = [name for name, array in changed.weights.items() if array.size > before[name].size]
        fewer = [name for name, array in changed.weights.items() if array.size < before[name].size]
        assert changed.weights.keys() == before.keys() and fewer and not grown, (fewer, grown)
        others = are_others(changed.outputs, subject.outputs(backend), subject.mask)
        assert others, "the outputs are those of the whole model: were heads only marked as pruned?"

    @needs("heads", "head_mask")
    def test_pruned_heads_are_masked_heads(self, subject: Subject, backend: Backend) -> None:
        masked = backend.run(subject.model(backend), {**subject.inputs, **subject.head_masks})
        assert_close_outputs(_pruned(subject, backend).outputs, masked, subject.mask)

    @needs("heads")
    def test_pruned_models_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        _assert_agree(subject, *(_pruned(subject, backend) for backend in pair))

    @needs("heads")
    def test_pruned_model_loads_elsewhere(self, subject: Subject, backend: Backend) -> None:
        _assert_loads(subject, backend, lambda saver: _pruned(subject, saver))

    @needs("heads")
    def test_heads_pruned_in_steps(self, subject: Subject, backend: Backend) -> None:
        """Layer after layer, the last first, and then all of them again, of which none is left."""
        model, once, heads = subject.fresh(backend), _pruned(subject, backend), subject.heads
        for layer in sorted(heads, reverse=True):
            model.prune_heads({layer: heads[layer]})
        model.prune_heads(heads)
        assert_same(subject.weights(backend, model), once.weights, "pruned in steps")
        assert _config_of(model.config)["pruned_heads"] == once.config["pruned_heads"]

    @needs("heads")
    def test_impossible_heads_change_nothing(self, subject: Subject, backend: Backend) -> None:
        model = _unharmed(subject, backend)
        layer = min(subject.heads)
        every, layers = list(range(_head_count(model, layer))), model.config.attention_count() or 10**6
        wrong: list[Any] = [{layers: [0]}, {-layers - 1: [0]}, {layer: [len(every)]}, {layer: [10**6]}, {layer: [-1]},
                            {layer: every}, {layer: 1}, {"a": [0]}, {layer: ["x"]}, [0], None]  # fmt: skip
        for heads in wrong:
            _assert_refused(f"prune_heads({heads})", partial(model.prune_heads, heads))
        _assert_unchanged(subject, backend, model)

    @needs("declared", "heads")
    def test_pruned_file_is_the_pruned_model(self, subject: Subject) -> None:
        draft = editing.prune(editing.open_draft(subject.folder), subject.heads)
        _assert_is(draft, _pruned(subject, subject.reference), subject)


# -- models after surgery -------------------------------------------------------------------------------------------


def _resized(subject: Subject, backend: Backend, rows: str) -> Changed:
    count = _rows(subject, rows)

    def resize(model: Any) -> None:
        given = model.resize_token_embeddings(count)
        assert given is not None, "resize_token_embeddings does not return the embeddings"
        assert _vocab_size(model.config) == count, "config.vocab_size does not follow"

    return _changed(subject, backend, f"{rows} rows", resize, subject.inputs if rows == "more" else None)


def _pruned(subject: Subject, backend: Backend) -> Changed:
    return _changed(subject, backend, "fewer heads", lambda model: model.prune_heads(subject.heads), subject.inputs)


def _changed(
    subject: Subject, backend: Backend, what: str, change: Callable[[Any], object], inputs: Inputs | None
) -> Changed:
    """Return a model after `change`; without `inputs` no outputs, which take longest."""

    def compute() -> Changed:
        model, folder = subject.fresh(backend), subject.folder.with_name(f"{what}, {backend.name}")
        change(model)
        declared, derived = model.schema.summary(), model._derive_schema().summary()
        wrong = [f"{n}: {declared.get(n)} is said, {derived.get(n)} found" for n in dict.fromkeys((*declared, *derived))
                 if declared.get(n) != derived.get(n)]  # fmt: skip
        assert not wrong, "shapes, layouts and ties of the live model are not what its schema says:\n" + "\n".join(
            wrong
        )
        model.save_pretrained(folder)
        outputs = backend.run(model, inputs) if inputs is not None else {}
        return Changed(subject.weights(backend, model), outputs, _config_of(model.config), folder)

    return subject.once(what, backend, compute)


def _unharmed(subject: Subject, backend: Backend) -> Any:
    """Return a model for what must not change it."""
    return subject.once("unharmed", backend, lambda: subject.fresh(backend))


def _rows(subject: Subject, rows: str) -> int:
    size = _vocab_size(subject.config)
    return size + 9 if rows == "more" else 2 * size // 3


def _vocab_size(config: PretrainedConfig) -> int:
    size: int = config.get_text_config().vocab_size
    return size


def _config_of(config: PretrainedConfig) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in SAVED}


def _head_count(model: Any, layer: int) -> int:
    axes = [
        axis for weight in model.schema.values() for axis in weight.axes if (axis.name, axis.layer) == (HEADS, layer)
    ]
    return axes[0].units if axes else model.config.num_attention_heads


# -- what is asked of them ------------------------------------------------------------------------------------------


def _assert_agree(subject: Subject, one: Changed, other: Changed) -> None:
    assert_same(other.weights, one.weights, "in the second framework")
    assert other.config == one.config
    assert other.outputs.keys() == one.outputs.keys()
    if one.outputs:
        assert_close_outputs(other.outputs, one.outputs, subject.mask)


def _assert_loads(subject: Subject, backend: Backend, changed: Callable[[Backend], Changed]) -> None:
    """Load what the framework before this one saved; of one framework alone, what it saved itself."""
    saved, here = changed(subject.backends[subject.backends.index(backend) - 1]), changed(backend)
    model = subject.fresh(backend, saved.folder, strict=True)
    assert_same(subject.weights(backend, model), here.weights, f"saved elsewhere and loaded by {backend.name}")
    assert _config_of(model.config) == here.config
    assert_close_outputs(backend.run(model, subject.inputs), here.outputs, subject.mask)


def _assert_unchanged(subject: Subject, backend: Backend, model: Any) -> None:
    assert_same(subject.weights(backend, model), subject.weights(backend), "after what is no change")
    assert _config_of(model.config) == _config_of(subject.model(backend).config)


def _assert_refused(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except ArgumentError as error:
        assert error.expected and error.received, f"{what} is refused, and not said what was expected: {error}"
        return
    pytest.fail(f"{what} is impossible, and no ArgumentError was raised")


def _assert_is(draft: editing.Draft, changed: Changed, subject: Subject) -> None:
    assert draft.config is not None
    assert_same({name: np.asarray(ref.read()) for name, ref in draft.tensors.items()}, changed.weights, "of the file")
    assert _config_of(type(subject.config).from_dict(dict(draft.config))) == changed.config


# -- a table of twice the values, as each framework takes it --------------------------------------------------------


def _twice_pt(model: Any) -> Any:
    import torch

    part = model.get_input_embeddings()
    with torch.no_grad():
        part.weight.mul_(2)
    return part


def _twice_tf(model: Any) -> Any:
    part = model.get_input_embeddings()
    part.set_weights([2 * array for array in part.get_weights()])
    return part


_TWICE: dict[str, Callable[[Any], Any]] = {
    "pt": _twice_pt,
    "tf": _twice_tf,
    "flax": lambda model: 2 * model.get_input_embeddings(),
}
