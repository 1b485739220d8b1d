"""Which layers of a model an adapter changes, from the model's schema alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from triptych.adapters.config import ALL_LINEAR, LoraConfig
from triptych.errors import ArgumentError
from triptych.weights.schema import Layout, Schema, Weight

USUAL = {
    "bert": ("query", "value"), "roberta": ("query", "value"), "electra": ("query", "value"),
    "distilbert": ("q_lin", "v_lin"), "gpt2": ("c_attn",), "opt": ("q_proj", "v_proj"), "t5": ("q", "v"),
    "llama": ("q_proj", "v_proj"), "mistral": ("q_proj", "v_proj"), "qwen2": ("q_proj", "v_proj"),
    "qwen3": ("q_proj", "v_proj"),
}  # fmt: skip
"""`target_modules` where a config has none, by model_type: the attention's queries and values, as in the paper."""
LAYOUTS = (Layout.LINEAR, Layout.CONV1D, Layout.EMBEDDING)
_SEQUENCE_HEADS = ("score", "classifier")


@dataclass(frozen=True)
class Target:
    """A layer that is adapted: by A, [rank, ins], and B, [outs, rank]; of an embedding `ins` are its rows.

    - `weight`: the canonical name of its matrix, whose layout is `layout`.
    - `scale`: by what B A is multiplied.
    """

    weight: str
    layout: Layout
    ins: int
    outs: int
    rank: int
    scale: float

    @property
    def module(self) -> str:
        return self.weight.rpartition(".")[0]

    @property
    def is_embedding(self) -> bool:
        return self.layout is Layout.EMBEDDING

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The shapes of A and B."""
        return (self.rank, self.ins), (self.outs, self.rank)


def target(weight: Weight, config: LoraConfig) -> Target:
    """Return the matrix `weight` as one that an adapter of `config` changes.

    Raises:
        ArgumentError: it is none of a projection or an embedding, or it is tied to another.
    """
    weight = (weight.packed and weight.packed.whole) or weight
    module = weight.name.rpartition(".")[0]
    if weight.layout not in LAYOUTS or not weight.name.endswith(".weight"):
        raise ArgumentError(
            f"{module} cannot be adapted.",
            expected="a projection (nn.Linear, Dense, GPT-2's Conv1D) or an embedding",
            received=f"a layer whose {weight.name} is of the layout {weight.layout.value}",
            remedy="leave it out of target_modules, or train it as a whole, by modules_to_save",
        )
    if weight.tied_to is not None:
        raise ArgumentError(
            f"{module} cannot be adapted: its matrix is that of {weight.tied_to}.",
            expected="a matrix of its own",
            received="a tied one",
            remedy="leave it out of target_modules, or load the model with tie_word_embeddings=False",
        )
    turned = weight.layout is not Layout.LINEAR
    ins, outs = weight.shape if turned else weight.shape[::-1]
    return Target(weight.name, weight.layout, ins, outs, config.rank_of(module), config.scale_of(module))


def targets(config: LoraConfig, schema: Schema, model_type: str = "") -> list[Target]:
    """Return the layers that a new adapter of `config` changes in a model of `schema`, in its order.

    Raises:
        ArgumentError: no layer is, or one that is asked for cannot be.
    """
    wanted = USUAL.get(model_type) if config.target_modules is None else config.target_modules
    if not wanted:
        raise ArgumentError(
            "The adapter does not say which layers it changes.",
            expected="target_modules: a list of names or their ends, a regular expression, or 'all-linear'",
            received=f"none, and there is no default for model_type {model_type!r}",
        )
    if isinstance(wanted, str) and wanted.lower() == ALL_LINEAR:
        return _all_linear(config, schema)
    matrices = {name.rpartition(".")[0]: name for name in schema if name.endswith(".weight")}
    found = [name for name in _modules(schema) if _is_target(config, wanted, name)]
    if not found:
        raise ArgumentError(
            "The adapter would change no layer of this model.",
            expected=f"ends of names such as {', '.join(_examples(schema))}",
            received=f"target_modules={wanted!r}"[:160],
            remedy="name layers of this model",
        )
    if whole := [name for name in found if name not in matrices]:
        raise ArgumentError(
            f"{whole[0]} cannot be adapted: it is a part of the model, made of layers.",
            expected=f"layers, such as {', '.join(_examples(schema))}",
            received=f"target_modules={wanted!r}"[:160],
        )
    return [target(schema[matrices[name]], config) for name in found]


def _all_linear(config: LoraConfig, schema: Schema) -> list[Target]:
    """Return every projection but that to the vocabulary, or the head that `task_type` says is new."""
    heads = () if config.task_type != "SEQ_CLS" else _SEQUENCE_HEADS
    found = []
    for stored in schema.stored():
        weight = (stored.packed and stored.packed.whole) or stored
        module = weight.name.rpartition(".")[0]
        is_matrix = weight.layout in (Layout.LINEAR, Layout.CONV1D) and weight.name.endswith(".weight")
        is_head = weight.axis_index("vocab") is not None or module in heads
        if is_matrix and not is_head and not _is_left_out(config, module):
            found.append(target(weight, config))
    return found


def _modules(schema: Schema) -> list[str]:
    """Return the names of every layer, and of every part that holds layers, once."""
    found: dict[str, None] = {}
    for name in schema:
        levels = name.split(".")[:-1]
        found |= dict.fromkeys(".".join(levels[:count]) for count in range(1, len(levels) + 1))
    return list(found)


def _examples(schema: Schema) -> list[str]:
    ends = (w.name.split(".")[-2] for w in schema.stored() if w.layout in LAYOUTS[:2] and w.name.count("."))
    return list(dict.fromkeys(ends))[:4]


def _is_target(config: LoraConfig, wanted: str | Sequence[str], name: str) -> bool:
    if _is_left_out(config, name):
        return False
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return ends_with(name, wanted) and _is_of_layer(config, name)


def _is_left_out(config: LoraConfig, name: str) -> bool:
    out = config.exclude_modules or ()
    excluded = re.fullmatch(out, name) is not None if isinstance(out, str) else ends_with(name, out)
    levels = name.split(".")
    above = (".".join(levels[:count]) for count in range(1, len(levels) + 1))
    return excluded or any(ends_with(one, config.modules_to_save) for one in above)


def ends_with(name: str, ends: Collection[str]) -> bool:
    """Return whether `name`, or its last levels, are among `ends`."""
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _is_of_layer(config: LoraConfig, name: str) -> bool:
    """Return whether a module is of one of `layers_to_transform`: the first number in its name says which."""
    if config.layers_to_transform is None:
        return True
    before = [rf"(?:^|.*?\.){pattern}" for pattern in config.layers_pattern] or [r".*?\.[^.]*"]
    match = next((m for one in before if (m := re.match(rf"{one}\.(?P<number>\d+)\.", name))), None)
    return match is not None and int(match["number"]) in config.layers_to_transform


def trained_whole(config: LoraConfig, schema: Schema, adapted: Sequence[Target]) -> list[str]:
    """Return the weights of the model that are trained with the adapter: of `modules_to_save`, and biases.

    Raises:
        ArgumentError: no module has one of these names, or a weight of theirs is tied to another.
    """
    found: dict[str, None] = {}
    for name in schema:
        levels = name.split(".")
        above = (".".join(levels[:count]) for count in range(1, len(levels)))
        if any(ends_with(one, config.modules_to_save) for one in above):
            found[name] = None
    if config.modules_to_save and not found:
        raise ArgumentError(
            "modules_to_save names no module of this model.",
            expected="ends of names of its modules",
            received=", ".join(config.modules_to_save)[:160],
        )
    layers = {one.module for one in adapted}
    for name in schema:
        scope, _, leaf = name.rpartition(".")
        if config.bias != "none" and leaf == "bias" and (config.bias == "all" or scope in layers):
            found[name] = None
    refuse_tied(found, schema)
    return [name for name in found if not schema[name].is_statistic]


def refuse_tied(names: Collection[str], schema: Mapping[str, Weight]) -> None:
    """Raise `ArgumentError` if a weight of `names` shares its values with another."""
    sources = {weight.tied_to for weight in schema.values()}
    if tied := [name for name in names if schema[name].tied_to is not None or name in sources]:
        raise ArgumentError(
            "An adapter cannot have a tied weight of its own, for the other one would change with it.",
            expected="weights that are not tied",
            received=", ".join(tied),
            remedy="load the model with tie_word_embeddings=False",
        )
