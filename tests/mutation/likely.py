"""Which tests are likely to see a fault, the likeliest first, where it is not known which lines they run.

A test of a family that compares with transformers 5 sees most of what a declaration can have wrong, and it takes a
second; so it goes first, for the class that has the fault. Then comes what else there is of that family, or what the
faulty part is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mutation.faults import Fault

SUITE = "conformance"
FAMILIES, WITNESS = f"{SUITE}/test_families.py", f"{SUITE}/test_witness.py"


@dataclass(frozen=True)
class Cases:
    """At most `most` tests of the file `path`, evenly chosen of those whose names have `pattern`."""

    path: str
    pattern: str = ""
    most: int = 8


def likely(fault: Fault, root: Path) -> list[list[Cases]]:
    """Return groups of tests, each for a process of its own."""
    place = f"{fault.path}:{fault.where}:{fault.before}"
    special = [cases for pattern, cases in SPECIAL if re.search(pattern, place)]
    return [*([special] if special else []), *_general(fault, root)]


def _general(fault: Fault, root: Path) -> list[list[Cases]]:
    module = Path(fault.path).stem
    if fault.path.startswith("core/triptych/families"):
        return _of_family(Path(fault.path).relative_to("core/triptych/families").parts[0].removesuffix(".py"), fault)
    if fault.path.startswith("core/triptych/nn"):
        own = [Cases(path, _QUICK.get(path, ""), 12) for path in PARTS.get(module, ())]
        return [[*_each_family(), *own[:1]], own[1:]] if module in WIDE else [own, _each_family()]
    backend = fault.path.partition("/")[0]
    if module == "ops":
        of_backend = rf"\[{backend}|{backend}-|{backend}\]"
        own = [Cases(path, _QUICK.get(path, of_backend), 10) for path in _users(fault.where, root)]
        first = [*own[:1], *_each_family()] if own else _each_family()
        return [first, [*own[1:], *_of_backend(backend)]]
    if module == "make":
        return [_each_family(), _of_backend(backend)]
    return [[Cases(path, most=40) for path in READERS.get(Path(fault.path).parent.name, READERS[""])]]


SPECIAL = (
    ("common.py:token_dropout", Cases(WITNESS, "rates_of_dropout.*gpt2", 20)),
    ("encoder_decoder.py:_Schema", Cases(f"{SUITE}/test_encoder_decoder.py", "tied|declared", 20)),
    (
        "encoder_decoder.py:EncoderDecoderModel.call",
        Cases(f"{SUITE}/test_encoder_decoder.py", "tuple|step_by_step|agree", 20),
    ),
    ("llama.py:LlamaAttention.setup:.*eps", Cases(WITNESS, r"epsilons\[qwen3", 4)),
    ("opt.py:OPTAttention.setup", Cases(FAMILIES, "pruned.*OPTModel", 4)),
    ("head_mask", Cases(FAMILIES, "pruned", 66)),
    ("bucket", Cases(f"{SUITE}/test_real_files.py", "buckets", 20)),
    ("legacy.py", Cases("tests/checkpoints/test_legacy.py", "names|kernels_and_statistics|generic_rules", 60)),
)
"""Tests of one thing: a pattern of path, function and text, and where they are."""
READERS = {
    "checkpoints": ("tests/checkpoints/test_legacy.py", "tests/checkpoints/test_opening.py",
                    "tests/checkpoints/test_saving.py", "tests/checkpoints/test_staging.py",
                    "tests/checkpoints/test_holding.py", "conformance/test_files.py"),
    "weights": ("tests/checkpoints/test_legacy.py", "conformance/test_schema.py", "conformance/test_files.py"),
    "tensors": ("tests/tensors/test_arrays.py", "tests/formats/test_safetensors.py",
                "tests/formats/torch/test_file.py"),
    "": ("tests/formats/test_safetensors.py", "conformance/test_files.py"),
    **{name: (f"tests/formats/{name}/test_file.py",) for name in ("gguf", "hdf5", "msgpack", "torch")},
}  # fmt: skip


MAIN = {"bert": "BertForPreTraining", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "opt": "OPTForCausalLM",
        "t5": "T5ForConditionalGeneration", "distilbert": "DistilBertForMaskedLM", "roberta": "RobertaForCausalLM",
        "electra": "ElectraForMaskedLM"}  # fmt: skip


def _each_family() -> list[Cases]:
    return [Cases(FAMILIES, rf"test_as_transformers_5\[.*-{stem}\]", 2) for stem in MAIN.values()]


def _of_family(family: str, fault: Fault) -> list[list[Cases]]:
    if family == "encoder_decoder":
        return [[Cases(f"{SUITE}/test_encoder_decoder.py", most=40)]]
    name = fault.where.partition(".")[0]
    own = [Cases(FAMILIES, rf"\[.*-{name}\]", 6)] if re.search(r"Model$|For[A-Z]", name) else []
    families = list(MAIN) if family == "common" else [family]
    same = [
        Cases(FAMILIES, rf"test_as_transformers_5\[{one}{variant}", 4) for one in families for variant in (",", "-")
    ]
    rest = [
        Cases(f"{SUITE}/{file}.py", one, most)
        for one in families
        for file, most in (
            ("test_families", 16), ("test_gradients", 3), ("test_caches", 6), ("test_decoding", 6),
            ("test_low_precision", 6), ("test_schema", 9), ("test_checkpointing", 4), ("test_surgery", 6),
            ("test_attention", 6), ("test_witness", 8), ("test_outputs", 6), ("test_signatures", 4),
        )
    ]  # fmt: skip
    declared = Cases(WITNESS, rf"test_(weights|epsilons|defaults)\[{family}", 60)
    if fault.at_import:  # a default, or a name of config.json
        return [[Cases(WITNESS, "test_defaults", 20), Cases("tests/config/test_base.py", most=60)], [*own, *same]]
    if fault.kind in ("epsilon", "transpose", "tie"):
        return [[declared], [*own, *same], rest]
    return [[*own, *same], [declared, *rest]]


WIDE = {
    "functional",
    "attention",
    "blocks",
    "stack",
    "heads",
    "encoder_heads",
    "decoder_heads",
    "axes",
    "rotary",
    "summary",
}
"""Modules that every family computes with."""
_TESTS = {
    "attention": ("test_attention", "test_caches", "test_decoding", "test_bad_arguments"),
    "blocks": ("test_attention", "test_few_rows", "test_gradients"),
    "functional": ("test_low_precision", "test_gradients", "test_bad_arguments", "test_caches"),
    "heads": ("test_outputs", "test_bad_arguments", "test_gradients"),
    "encoder_heads": ("test_outputs", "test_bad_arguments", "test_gradients"),
    "decoder_heads": ("test_outputs", "test_bad_arguments", "test_gradients"),
    "cache": ("test_caches", "test_decoding", "test_generation"),
    "growing_cache": ("test_caches", "test_decoding", "test_generation"),
    "fixed_cache": ("test_caches", "test_decoding", "test_generation"),
    "rotary": ("test_low_precision", "test_decoding"),
    "seeding": ("test_seeded_dropout",),
    "threefry": ("test_seeded_dropout",),
    "packed": ("test_quantised",),
    "outputs": ("test_outputs", "test_parts"),
    "more_outputs": ("test_outputs",),
    "parts": ("test_parts", "test_signatures", "test_schema", "test_own_classes"),
    "recording": ("test_witness", "test_schema", "test_surgery"),
    "stack": ("test_checkpointing", "test_gradients", "test_caches"),
    "fitting": ("test_bad_arguments",),
    "axes": ("test_schema", "test_surgery"),
}
PARTS = {module: tuple(f"{SUITE}/{name}.py" for name in names) for module, names in _TESTS.items()}
_QUICK = {f"{SUITE}/test_seeded_dropout.py": "test_(words|masks|shards|dropout_acts|calls_are)",
          WITNESS: "test_weights"}  # fmt: skip
_ROOMS = {"generation": "test_generation_processors", "nn/threefry": "test_seeded_dropout",
          "nn/seeding": "test_seeded_dropout", "nn/packed": "test_quantised", "nn/growing_cache": "test_caches",
          "nn/fixed_cache": "test_caches", "nn/cache": "test_caches", "weights/codecs": "test_quantised",
          "nn/blocks": "test_attention"}  # fmt: skip


@cache
def _users(function: str, root: Path) -> tuple[str, ...]:
    """Return the test files of those parts of core that call a function of `ops`."""
    core, found = root / "core/triptych", {}
    for path in sorted(core.rglob("*.py")):
        place = path.relative_to(core).as_posix()
        room = next((room for room in _ROOMS if place.startswith(room)), None)
        if room and re.search(rf"\bops\.{function.strip('_')}\(", path.read_text()):
            found[f"{SUITE}/{_ROOMS[room]}.py"] = None
    return tuple(found)


def _of_backend(backend: str) -> list[Cases]:
    """Return tests of everything that layers and primitives of a backend are for."""
    own = rf"\[{backend}|{backend}-|{backend}\]"
    rest = ("test_schema", "test_low_precision", "test_seeded_dropout", "test_quantised", "test_caches", "test_parts",
            "test_attention", "test_checkpointing", "test_surgery", "test_signatures", "test_live_layers")  # fmt: skip
    files = [Cases(f"{SUITE}/{name}.py", own, 8) for name in rest]
    return [Cases(f"{SUITE}/test_gradients.py", most=5), Cases(FAMILIES, "pruned|train", 8), *files]


def picked(names: Iterable[str], cases: Cases) -> list[str]:
    """Return of the names of tests those that are meant."""
    found = [name for name in names if name.startswith(cases.path) and re.search(cases.pattern, name)]
    count = min(cases.most, len(found))
    return [found[number * len(found) // count] for number in range(count)]
