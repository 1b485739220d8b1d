"""What a model may have or not, and how to see it: a model that lacks one says so, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from triptych.errors import TriptychError
from triptych.tools.editing import open_draft
from triptych_conformance.suite.arrays import are_others
from triptych_conformance.tolerance import compare

if TYPE_CHECKING:
    from triptych_conformance.parity import Backend
    from triptych_conformance.suite.subject import Subject

Predicate = Callable[["Subject", "Backend"], bool]


def _takes(*arguments: str) -> Predicate:
    return lambda subject, backend: any(backend.takes(subject.model(backend), name) for name in arguments)


def _schema_has(which: Callable[[Any], bool]) -> Predicate:
    return lambda subject, backend: any(map(which, subject.model(backend).schema.values()))


def _works(call: Callable[[Any], Any]) -> Predicate:
    def works(subject: Subject, backend: Backend) -> bool:
        try:
            return call(subject.fresh(backend)) is not False
        except (TriptychError, NotImplementedError):
            return False

    return works


def _drops(subject: Subject, backend: Backend) -> bool:
    return are_others(subject.trained_outputs(backend), subject.outputs(backend), subject.mask)


def _drops_by_seed(subject: Subject, backend: Backend) -> bool:
    found, again, others = (subject.seeded_outputs(backend, seed) for seed in (1, 1, 2))
    drops = all(are_others(found, two, subject.mask) for two in (subject.outputs(backend), others))
    return drops and all(compare(value, found[name]).fraction <= 1 for name, value in again.items())


def _prunes(subject: Subject, backend: Backend) -> bool:
    return _works(lambda model: model.prune_heads(subject.heads))(subject, backend)


def _caches(subject: Subject, backend: Backend) -> bool:
    model = subject.model(backend)
    return backend.takes(model, "past_key_values") and (model._has_own_hooks() or _gives_caches(subject, backend))


def _gives_caches(subject: Subject, backend: Backend) -> bool:
    hooked = subject.model(backend)._has_own_hooks()
    return not hooked and _works(lambda model: model.init_cache(1, 2))(subject, backend)


def _has_base(subject: Subject, backend: Backend) -> bool:
    schema = subject.model(backend).schema
    dot = f"{schema.base_prefix}."
    return bool(schema.base_prefix) and (schema.is_base or any(name.startswith(dot) for name in schema))


def _grow(model: Any) -> None:
    model.resize_token_embeddings(model.config.vocab_size + 1)


FEATURES: dict[str, tuple[str, Predicate]] = {
    "attention_mask": ("a mask of padding among its arguments", _takes("attention_mask")),
    "hidden_states": ("output_hidden_states among its arguments", _takes("output_hidden_states")),
    "attentions": ("output_attentions among its arguments", _takes("output_attentions")),
    "return_dict": ("return_dict among its arguments", _takes("return_dict")),
    "loss": ("labels among its arguments", _takes("labels", "start_positions", "next_sentence_label")),
    "dropout": ("outputs that differ while it is trained", _drops),
    "vocabulary": ("embeddings of words that can be resized", _works(_grow)),
    "heads": ("attention heads that can be pruned", _prunes),
    "declared": ("a schema that is found by its folder",
                 lambda subject, backend: open_draft(subject.folder).schema is not None),
    "set_embeddings": ("embeddings of words that can be replaced",
                       _works(lambda m: m.set_input_embeddings(m.get_input_embeddings()))),
    "seeded_dropout": ("dropout that is drawn by a seed, alike in every framework", _drops_by_seed),
    "head_mask": ("head_mask among its arguments", _takes("head_mask")),
    "base": ("a base_model_prefix: before the names of its backbone, or of none as it is the backbone", _has_base),
    "ties": ("weights that are one, such as embeddings and head", _schema_has(lambda one: one.tied_to is not None)),
    "buffers": ("values that are saved and not trained", _schema_has(lambda weight: weight.buffer)),
    "checkpointing": ("layers that can be computed anew for the gradient",
                      _works(lambda m: m.gradient_checkpointing_enable())),
    "generation": ("generate()", lambda subject, backend: bool(subject.model(backend).can_generate())),
    "cache": ("a cache of the tokens before, with which it generates", _caches),
    "init_cache": ("init_cache(), whose caches its calls take and return", _gives_caches),
}  # fmt: skip
"""By name: what it is, and whether a model of one framework has it."""
