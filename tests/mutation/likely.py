"""Which tests are likely to see a fault, the likeliest first, where it is not known which lines they run.

A test of a family that compares with transformers 5 sees most of what a declaration can have wrong, and it takes a
second; so it goes first, for the class that has the fault. Then comes what else there is of that family, or what the
faulty part is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mutation.faults import Fault

SUITE = "conformance"
FAMILIES, WITNESS = f"{SUITE}/test_family_classes.py", f"{SUITE}/test_witness.py"
ORIGIN = "test_outputs_are_those_of_the_origin"


@dataclass(frozen=True)
class Cases:
    """At most `most` tests of the file `path`, evenly chosen of those whose names have `pattern`."""

    path: str
    pattern: str = ""
    most: int = 8


def likely(fault: Fault, root: Path) -> list[list[Cases]]:
    """Return groups of tests, each for a process of its own."""
    place = f"{fault.path}:{fault.where}:{fault.before}"
    name, backend = fault.where.partition(".")[0], fault.path.partition("/")[0]
    special = [
        replace(one, pattern=one.pattern.replace("CLASS", name).replace("BACKEND", backend))
        for at, one in SPECIAL
        if re.search(at, place)
    ]
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


_OF_OPS = (
    ("word|shift|rotated|signed|counted|repeated|masked", "test_seeded_dropout", "of_a_trace|words|masks|dropout_acts"),
    ("argsort|put_along|column|counts|add_at|with_rows|cumsum|max_last|sum_last|maximum|minimum|any|topk"
     "|take_along|log_softmax", "test_generation_processors", r"\[BACKEND-|BACKEND\]"),
    ("bits|bitcast", "test_quantised", "products"),
    ("write|put|buffer|begins|may_write|write_into|write_rows_into|rows_of", "test_caches", ""),
    ("recomputed|recomputed.run", "test_checkpointing", "flax_keeps|tensorflow_computes"),
    ("fused_attention|drops|loop|fuses", "test_attention", "over_a_mask.*BACKEND|same_outputs.*BACKEND-bert"),
    ("without_gradient", "test_gradients", "padding"),
    ("minimum_of", "test_generation_contrastive", "BACKEND"),
    ("argmax|repeat|topk|take_along|max|all|invert|minimum_of", "test_generation", "BACKEND"),
)  # fmt: skip
SPECIAL = (
    ("common.py:token_dropout", Cases(WITNESS, "rates_of_dropout.*gpt2", 20)),
    ("encoder_decoder.py:_Schema", Cases(f"{SUITE}/test_encoder_decoder.py", "tied|declared", 20)),
    (
        "encoder_decoder.py:EncoderDecoderModel.call",
        Cases(f"{SUITE}/test_encoder_decoder.py", "tuple|step_by_step", 20),
    ),
    ("llama.py:LlamaAttention.setup:.*eps", Cases(WITNESS, r"epsilons\[qwen3", 4)),
    ("opt.py:OPTAttention.setup", Cases(FAMILIES, "::TestOPTModel.*prune", 4)),
    ("nn/(seeding|threefry).py", Cases(f"{SUITE}/test_seeded_dropout.py", "of_a_trace|words|masks", 12)),
    ("make.py:FlaxConv1D.__call__:made", Cases(f"{SUITE}/test_quantised.py", "of_gpt2", 3)),
    ("functional.py:shifted", Cases(f"{SUITE}/test_encoder_decoder.py", "shifted_behind", 4)),
    ("make.py:(declared_call|constructor_signature|_taking_old)", Cases(f"{SUITE}/test_signatures.py", most=200)),
    (
        "flax.*make.py:(FlaxConv1D|FlaxVocabProjector|FlaxRMS).*asarray",
        Cases(f"{SUITE}/test_low_precision.py", "whatever", 8),
    ),
    ("make.py:(dense|WideLinear|_policy_of)", Cases(f"{SUITE}/test_low_precision.py", "t5", 8)),
    *(
        (rf"ops.py:_?({functions})$|ops.py:_?({functions})[:.]", Cases(f"{SUITE}/{file}.py", pattern, 30))
        for functions, file, pattern in _OF_OPS
    ),
    ("pt/.*(make.py:Conv1D.forward|ops.py:(project|is_few))", Cases(f"{SUITE}/test_few_rows.py", most=20)),
    ("make.py:(prune_attention|_keep)", Cases(f"{SUITE}/test_contract.py", "which_heads_are_gone", 4)),
    ("ops.py:cross_entropy", Cases(FAMILIES, "losses_are_those", 12)),
    ("ops.py:(maximum|minimum)", Cases(FAMILIES, f"::TestT5Model.*{ORIGIN}", 2)),
    ("ops.py:max", Cases(FAMILIES, f"::Test(T5ForSequenceClassification|.*Dynamic).*{ORIGIN}", 4)),
    ("layouts.py", Cases(f"{SUITE}/test_live_layers.py", most=40)),
    ("formats/gguf", Cases("tests/formats/gguf/test_file.py", "of_each_type|base_of_the_rotary|bad_gguf", 100)),
    ("formats/torch", Cases("tests/formats/torch/test_file.py", "oldest|stand|up_to_32", 20)),
    ('ops.py::"u?int32', Cases(f"{SUITE}/test_seeded_dropout.py", "of_a_trace|words|masks", 12)),
    ("ops.py:(is_half|softmax)", Cases(f"{SUITE}/test_low_precision.py", "every_output.*BACKEND|BACKEND", 12)),
    ("pt/.*make.py:.*__init__", Cases(f"{SUITE}/test_parts.py", "of_authors", 4)),
    ("make.py:.*VocabProjector", Cases(FAMILIES, f"::TestDistilBertForMaskedLM.*{ORIGIN}", 4)),
    ("make.py:FlaxBlock", Cases(f"{SUITE}/test_parts.py", most=60)),
    ("packed.py:vectors", Cases(f"{SUITE}/test_quantised.py", "products", 4)),
    ("nn/outputs.py", Cases("tests/nn/test_outputs.py", most=60)),
    ("nn/growing_cache.py", Cases(f"{SUITE}/test_caches.py", "long_parts|outgrown|encoders_states|branches|bits", 20)),
    ("nn/heads.py", Cases(f"{SUITE}/test_parts.py", most=60)),
    ("functional.py:last_token", Cases(FAMILIES, f"::Test(GPT2|Llama)ForSequenceClassification.*{ORIGIN}", 4)),
    ("functional.py:(shifted|.*loss)", Cases(FAMILIES, "losses_are_those", 60)),
    ("resolve.py:is_of_one_save", Cases("tests/checkpoints/test_staging.py", most=200)),
    ("families.*head_mask", Cases(FAMILIES, "::TestCLASS[A-Z:].*(prune|head_mask)", 4)),
    ("head_mask", Cases(FAMILIES, "prune|head_mask", 10)),
    ("bucket", Cases(f"{SUITE}/test_real_files.py", "buckets", 20)),
    ("legacy.py", Cases("tests/checkpoints/test_legacy.py", "names|kernels_and_statistics|generic_rules", 60)),
)
"""Tests of one thing: a pattern of path, function and text, and where they are; CLASS is the class of the fault, and
BACKEND its framework."""
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


NAMES = {"bert": "Bert", "gpt2": "GPT2", "llama": "Llama", "opt": "OPT", "t5": "T5", "distilbert": "DistilBert",
         "roberta": "Roberta", "electra": "Electra", "mistral": "Mistral", "qwen2": "Qwen2",
         "qwen3": "Qwen3"}  # fmt: skip
MAIN = {"bert": "BertForPreTraining", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "opt": "OPTForCausalLM",
        "t5": "T5ForConditionalGeneration", "distilbert": "DistilBertForMaskedLM", "roberta": "RobertaForCausalLM",
        "electra": "ElectraForMaskedLM"}  # fmt: skip


def _each_family() -> list[Cases]:
    return [Cases(FAMILIES, rf"::Test{stem}[A-Z:].*{ORIGIN}", 2) for stem in MAIN.values()]


def _of_family(family: str, fault: Fault) -> list[list[Cases]]:
    if family == "encoder_decoder":
        return [[Cases(f"{SUITE}/test_encoder_decoder.py", most=40)]]
    name = fault.where.partition(".")[0]
    own = (
        [Cases(FAMILIES, rf"::Test{name}[A-Z:].*({ORIGIN}|losses|prune)", 8)]
        if re.search(r"Model$|For[A-Z]", name)
        else []
    )
    families = list(MAIN) if family == "common" else [family]
    same = [Cases(FAMILIES, rf"::Test{NAMES[one]}.*{ORIGIN}", 8) for one in families]
    rest = [
        Cases(f"{SUITE}/{file}.py", one, most)
        for one in families
        for file, most in (
            ("test_gradients", 3), ("test_caches", 6), ("test_decoding", 6),
            ("test_low_precision", 6), ("test_schema", 9), ("test_checkpointing", 4), ("test_surgery", 6),
            ("test_attention", 6), ("test_witness", 8), ("test_outputs", 6), ("test_signatures", 4),
        )
    ]  # fmt: skip
    declared = Cases(WITNESS, rf"test_(weights|epsilons|defaults)\[{family}", 60)
    if fault.at_import:  # a default, or a name of config.json
        return [
            [Cases(WITNESS, "test_defaults|other_names", 40), Cases("tests/config/test_base.py", most=60)],
            [*own, *same],
        ]
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
    return [Cases(f"{SUITE}/test_gradients.py", most=5), Cases(FAMILIES, "prune|training_drops", 8), *files]


def picked(names: Iterable[str], cases: Cases) -> list[str]:
    """Return of the names of tests those that are meant."""
    found = [name for name in names if name.startswith(cases.path) and re.search(cases.pattern, name)]
    count = min(cases.most, len(found))
    return [found[number * len(found) // count] for number in range(count)]
