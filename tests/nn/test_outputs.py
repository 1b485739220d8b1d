"""Output classes of others: dataclasses, by position or by name, as attributes and as items."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from triptych.nn.more_outputs import OF_FLAX, OF_TF
from triptych.nn.outputs import BaseModelOutput, ModelOutput


@dataclasses.dataclass
class Both(ModelOutput):
    loss: Any = None
    logits: Any = None
    extra: Any = None


@pytest.mark.parametrize("made", [Both(1, [2]), Both(loss=1, logits=[2]), Both({"loss": 1, "logits": [2]}),
                                  Both([("loss", 1), ("logits", [2])])])  # fmt: skip
def test_a_dataclass_is_made_of_its_fields(made: Both) -> None:
    assert made.to_tuple() == (1, [2]) and made[1] == [2] and made["loss"] == 1 and made.extra is None
    assert dict(made) == {"loss": 1, "logits": [2]} and "extra" not in made
    made.extra, made["loss"] = 3, 4
    assert made.to_tuple() == (4, [2], 3) and made.loss == 4
    # Its own bytes, made here: that outputs pickle is what is tested.
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(other) is Both and other.to_tuple() == made.to_tuple() and other.loss == 4


def test_a_list_of_which_some_are_pairs_is_a_value() -> None:
    assert Both([("loss", 1), 2]).loss == [("loss", 1), 2]
    assert Both([("loss", 1), (3, 4)]).loss == [("loss", 1), (3, 4)]


def test_fields_of_a_class_come_after_those_of_its_base() -> None:
    class More(Both):
        last: Any = None

    assert list(More.fields()) == ["loss", "logits", "extra", "last"]


def test_fields_are_not_taken_away() -> None:
    made = Both(loss=1)
    for change in (lambda: made.pop("loss"), lambda: made.update(loss=2), made.clear, lambda: made.setdefault("a", 1)):
        with pytest.raises(TypeError, match="its fields stay"):
            change()
    with pytest.raises(TypeError, match="cannot be deleted"):
        del made["loss"]


def test_a_built_in_class_takes_its_fields_by_position() -> None:
    assert BaseModelOutput(1, None, (2,)).to_tuple() == (1, (2,))
    assert BaseModelOutput([("last_hidden_state", 1)]).last_hidden_state == 1


def test_torch_and_jax_look_into_outputs_of_others() -> None:
    import flax.struct
    import jax
    import torch
    from torch.utils import _pytree as pytree

    from triptych import FlaxPreTrainedModel, PreTrainedModel

    assert FlaxPreTrainedModel and PreTrainedModel

    @flax.struct.dataclass
    class Struct(ModelOutput):
        loss: Any = None
        logits: Any = None

    made = jax.jit(lambda x: Struct(logits=x * 2))(3.0)
    assert made.to_tuple() == (6.0,) and made.replace(loss=1.0).to_tuple() == (1.0, 6.0)

    class Plain(ModelOutput):
        logits: Any

    assert jax.jit(lambda x: Plain(logits=x))(3.0).logits == 3.0
    leaves, _ = pytree.tree_flatten(Plain(logits=torch.ones(2)))
    assert len(leaves) == 1 and len(jax.tree.leaves(Both(loss=1, logits=2))) == 2


@pytest.mark.parametrize(("module", "prefix", "names"), [("modeling_tf_outputs", "TF", OF_TF),
                                                         ("modeling_flax_outputs", "Flax", OF_FLAX)])  # fmt: skip
def test_all_frameworks_have_one_class(module: str, prefix: str, names: tuple[str, ...]) -> None:
    import importlib

    theirs, ours = importlib.import_module(f"triptych.{module}"), importlib.import_module("triptych.modeling_outputs")
    assert all(getattr(theirs, prefix + name) is getattr(ours, name) for name in names)
