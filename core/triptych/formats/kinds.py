"""The kinds of weight files: what each is called in a folder, whose names and layouts it holds, and which one wins."""

from __future__ import annotations

import re
from dataclasses import dataclass

from triptych.errors import ArgumentError

SAVE_ID = "triptych_save_id"
"""Under this key the same value stands in every weight file, in the index and in config.json of one save."""
_VARIANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED = re.compile(r"g[0-9a-f]{8}|.*-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class Format:
    """One way to store a checkpoint.

    - `name`: what `save_pretrained(format=)` and the command line call it.
    - `single`: the name of a file that holds everything.
    - `flavour`: whose names and layouts the tensors have: "pt" (the canonical ones), "tf" or "flax".
    - `has_metadata`: whether a file can say of which save it is; else the names of its shards do.
    """

    name: str
    single: str
    flavour: str
    has_metadata: bool

    @property
    def suffix(self) -> str:
        """The end of the name of each of its weight files, with the dot."""
        return "." + self.single.rpartition(".")[2]

    @property
    def stem(self) -> str:
        return self.single.removesuffix(self.suffix)

    @property
    def index(self) -> str:
        """The name of the file that says in which shard each tensor is."""
        return f"{self.single}.index.json"

    def names(self, variant: str | None = None) -> tuple[str, str]:
        """Return the names of the single file and of the index; `ArgumentError` if `variant` is no name."""
        return with_variant(self.single, variant), with_variant(self.index, variant)


SAFETENSORS = Format("safetensors", "model.safetensors", "pt", True)
BIN = Format("bin", "pytorch_model.bin", "pt", True)
H5 = Format("h5", "tf_model.h5", "tf", True)
MSGPACK = Format("msgpack", "flax_model.msgpack", "flax", False)
FORMATS = {
    format.name: format
    for format in (
        SAFETENSORS,
        BIN,
        H5,
        MSGPACK,
        Format("safetensors-tf", "model.safetensors", "tf", True),
        Format("safetensors-flax", "model.safetensors", "flax", True),
    )
}
"""Every format that can be written, by name."""
LAYOUTS = (SAFETENSORS, BIN, H5, MSGPACK)
"""One format for each kind of file, in the order in which they are looked for when nothing else is said."""
WEIGHT_SUFFIXES = tuple(format.suffix for format in LAYOUTS)
"""How the names of weight files end."""
OWN = {"pt": BIN, "tf": H5, "flax": MSGPACK}
"""The format of each framework before safetensors."""

COMPANIONS = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
    "chat_template.jinja", "chat_template.json", "preprocessor_config.json", "LICENSE", "NOTICE",
)  # fmt: skip
"""Files beside the weights that are copied along."""


def with_variant(name: str, variant: str | None) -> str:
    """Return `name` with `variant` before its last dot: model.fp16.safetensors, model.safetensors.index.fp16.json."""
    if variant is None:
        return name
    if not isinstance(variant, str) or not _VARIANT.fullmatch(variant):
        raise ArgumentError("variant is no name.", expected="letters, digits, - and _", received=repr(variant))
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{variant}.{suffix}"


def is_reserved_variant(variant: str) -> bool:
    """Return whether files of this variant would be called like shards, or like those of one save alone."""
    return _RESERVED.fullmatch(variant) is not None


def refuse_reserved(variant: str | None) -> None:
    """Raise `ArgumentError` if `variant` cannot be saved."""
    if variant is not None and is_reserved_variant(variant):
        raise ArgumentError(
            "variant is a name that a save gives to its own files.",
            expected="no g with eight hexadecimal digits, and no number of a shard",
            received=repr(variant),
            remedy="choose another name",
        )


def parse_format(name: object) -> Format:
    """Return the format called `name`; `ArgumentError` if there is none."""
    if not isinstance(name, str) or name not in FORMATS:
        raise ArgumentError("The format is unknown.", expected=", ".join(FORMATS), received=repr(name))
    return FORMATS[name]


def format_to_save(format: object, safe_serialization: bool, framework: str) -> Format:
    """Return the format that `save_pretrained` was asked for: `format`, else what `safe_serialization` says.

    Raises:
        ArgumentError: an unknown format, or one that contradicts `safe_serialization=False`.
    """
    if format is None:
        return SAFETENSORS if safe_serialization else OWN[framework]
    chosen = parse_format(format)
    if not safe_serialization and chosen.suffix == SAFETENSORS.suffix:
        raise ArgumentError(
            "format= and safe_serialization=False contradict each other.",
            expected="one of both",
            received=repr(format),
            remedy=f"pass format={OWN[framework].name!r}, or leave safe_serialization out",
        )
    return chosen


def read_order(
    framework: str = "",
    use_safetensors: bool | None = None,
    from_pt: bool = False,
    from_tf: bool = False,
    from_flax: bool = False,
) -> tuple[Format, ...]:
    """Return the formats to look for in a folder, the one that wins first.

    It is safetensors, then the own format of `framework` ("pt", "tf", "flax" or ""), then the others.
    `use_safetensors` allows nothing else (True), or any other (False). `from_pt`, `from_tf` and `from_flax` put that
    framework's own format first and allow safetensors beside it.

    Raises:
        ArgumentError: arguments that contradict each other.
    """
    asked = [name for name, wanted in (("pt", from_pt), ("tf", from_tf), ("flax", from_flax)) if wanted]
    if len(asked) > 1 or (asked and use_safetensors):
        names = [f"from_{name}=True" for name in asked] + ["use_safetensors=True"] * bool(use_safetensors)
        raise ArgumentError("These arguments contradict each other.", expected="one of them", received=", ".join(names))
    if use_safetensors:
        return (SAFETENSORS,)
    if asked:
        order = [OWN[asked[0]], SAFETENSORS]
    else:
        own = [OWN[framework]] if framework else []
        order = list(dict.fromkeys([SAFETENSORS, *own, *LAYOUTS]))
    return tuple(format for format in order if format is not SAFETENSORS or use_safetensors is None)
