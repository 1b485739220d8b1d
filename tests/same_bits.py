"""Compute everything that the models compute in two revisions, and show that it is the same, bit for bit.

    python tests/same_bits.py --before main                                  # against this checkout, as it is now
    python tests/same_bits.py --before main --record FOLDER                  # compute once, compare nothing
    python tests/same_bits.py --before FOLDER --families bert,roberta --frameworks pt     # compare with that, quickly

A revision is computed in one process for each framework, which imports that revision alone. The models are those of
`tests/golden` and every class of `small_models.py`, with weights that depend on their names only: outputs, losses,
decoding with a cache, gradients, dropout, initial values, bfloat16, resized and pruned models. Beside the numbers there
are texts: the schema and config of each class; and the structure, which is its signatures, ancestors, parts and the
names of its parameters in the framework. Prints what differs, and exits with status 1 if anything does.
A record holds for one machine and one set of installed packages.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (numpy then knows bfloat16)
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

CHECKOUT = Path(__file__).resolve().parents[1]
GOLDEN = CHECKOUT / "tests/golden"
SOURCES = ("core", "pt", "tf", "flax", "conformance", "conformance/support", "tests", "tests/support")
ENVIRONMENT = {
    "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",  # else what was compiled is found again in the same folder only
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_PLATFORMS": "cpu",
    "MKL_CBWR": "COMPATIBLE",  # else sums may depend on where an array lies in memory
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}
UNSET = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS")
"""Variables that change bits too."""
PACKAGES = ("numpy", "ml_dtypes", "torch", "tensorflow-cpu", "keras", "jax", "jaxlib", "flax")
COMPILED = "compiled"
"""Folder of a record with what JAX compiled, which takes most of the time."""
SLOWEST_FIRST = ("flax", "tf", "pt")
SHARED = "shared"
"""Stands for the family of classes that belong to none."""

Arrays = Mapping[str, np.ndarray]


# -- a record: what one revision computes in one framework ------------------------------------------------------------


class Record:
    """Arrays and texts by key: family/model/class/kind/name; and which models could not be computed."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.texts: dict[str, list[str]] = {}
        self.errors: dict[str, str] = {}
        self.machine = machine()

    def save(self, path: Path) -> None:
        meta = {name: json.dumps(getattr(self, name)) for name in ("texts", "errors", "machine")}
        save_file(self.arrays, path, meta)

    @classmethod
    def load(cls, path: Path) -> Record:
        if not path.exists():
            raise SystemExit(f"there is no record {path}")
        made = cls()
        made.arrays = load_file(path)
        with safe_open(path, "numpy") as file:
            for name, text in file.metadata().items():
                setattr(made, name, json.loads(text))
        return made

    def of(self, families: list[str]) -> Record:
        """Return the part that is about these families, or all if there are none."""
        made = Record()
        made.machine = self.machine
        for name in ("arrays", "texts", "errors"):
            wanted = {k: v for k, v in getattr(self, name).items() if not families or family_of(k) in families}
            setattr(made, name, wanted)
        return made


def family_of(key: str) -> str:
    return key.split("/")[0]


def case_of(key: str) -> str:
    return "/".join(key.split("/")[:3])


def kind_of(key: str) -> str:
    return key.split("/")[3]


def machine() -> dict[str, str]:
    """Return what bits depend on beside the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    about = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = f"{zlib.crc32(about.get('flags', '').encode()):08x}"
    processor = f"{about.get('model name', platform.processor())}, flags {flags}"
    return {"processor": processor, **{package: version(package) for package in PACKAGES}}


# -- the frameworks ---------------------------------------------------------------------------------------------------


class Framework:
    """What one framework does its own way. Models are asked through their public methods only."""

    name = package = prefix = call = ""

    def __init__(self) -> None:
        self.module = importlib.import_module(self.package)

    def classes(self) -> list[Any]:
        """Return the public classes of models, each with its config class."""
        named = [getattr(self.module, name) for name in self.module.__all__]
        return [cls for cls in named if getattr(cls, "config_class", None) and not is_base(cls)]

    def takes(self, model: Any) -> list[str]:
        return list(inspect.signature(getattr(model, self.call)).parameters)

    def seed(self) -> None:
        """Seed what draws initial values and dropout."""

    def built(self, cls: Any, config: Any) -> Any:
        """Return a freshly initialised model."""
        self.seed()
        return cls(config)

    def run(self, model: Any, inputs: Arrays, **options: Any) -> Any:
        """Return the outputs of inference."""
        return model(**inputs, **options)

    def dropped(self, model: Any, inputs: Arrays) -> Any:
        """Return the outputs of a call with dropout."""
        raise NotImplementedError

    def gradients(self, model: Any, inputs: Arrays) -> dict[str, Any]:
        """Return the gradient of the loss by the framework's name of the parameter."""
        raise NotImplementedError

    def compiled(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any] | None:
        """Return a function of a cache and ids, compiled; None where nothing is."""
        raise NotImplementedError

    def structure(self, model: Any) -> dict[str, list[str]]:
        """Return the names that the framework has for the parts of a model."""
        raise NotImplementedError

    def array(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def forget(self) -> None:
        """Free what was kept for the models so far."""


class PyTorch(Framework):
    name, package, prefix, call = "pt", "triptych_pt", "", "forward"

    def seed(self) -> None:
        import torch

        torch.manual_seed(7)

    def run(self, model: Any, inputs: Arrays, **options: Any) -> Any:
        import torch

        with torch.no_grad():
            return model.eval()(**self._tensors(inputs), **options)

    def dropped(self, model: Any, inputs: Arrays) -> Any:
        self.seed()
        return model.train()(**self._tensors(inputs))

    def gradients(self, model: Any, inputs: Arrays) -> dict[str, Any]:
        model.train()(**self._tensors(inputs)).loss.backward()
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}

    def compiled(self, function: Callable[[Any, Any], Any]) -> None:
        return None

    def structure(self, model: Any) -> dict[str, list[str]]:
        return {
            "state_dict": list(model.state_dict()),
            "parameters": [f"{name} {p.requires_grad}" for name, p in model.named_parameters()],
            "buffers": [name for name, _ in model.named_buffers()],
            "modules": [f"{name} {type(module).__name__}" for name, module in model.named_modules()],
        }

    def array(self, value: Any) -> np.ndarray:
        import torch
        from ml_dtypes import bfloat16

        if not isinstance(value, torch.Tensor):
            return np.asarray(value)
        value = value.detach()
        return value.view(torch.int16).numpy().view(bfloat16) if value.dtype is torch.bfloat16 else value.numpy()

    @staticmethod
    def _tensors(inputs: Arrays) -> dict[str, Any]:
        import torch

        return {name: torch.tensor(value) for name, value in inputs.items()}


class TensorFlow(Framework):
    name, package, prefix, call = "tf", "triptych_tf", "TF", "call"

    def seed(self) -> None:
        import keras

        keras.utils.clear_session(free_memory=False)  # which numbers the names of layers
        keras.utils.set_random_seed(7)

    def run(self, model: Any, inputs: Arrays, **options: Any) -> Any:
        return model(**inputs, **options, training=False)

    def dropped(self, model: Any, inputs: Arrays) -> Any:
        return model(**inputs, training=True)  # its layers were seeded when they were built

    def gradients(self, model: Any, inputs: Arrays) -> dict[str, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = model(**inputs, training=True).loss
        found = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        named = zip(model.trainable_variables, found, strict=True)
        return {variable.path: tf.convert_to_tensor(value) for variable, value in named if value is not None}

    def compiled(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        import tensorflow as tf

        return tf.function(function)

    def array(self, value: Any) -> np.ndarray:
        return value.numpy() if hasattr(value, "numpy") else np.asarray(value)

    def structure(self, model: Any) -> dict[str, list[str]]:
        return {"variables": [f"{variable.path} {variable.trainable}" for variable in model.variables]}


class Flax(Framework):
    name, package, prefix, call = "flax", "triptych_flax", "Flax", "__call__"

    def built(self, cls: Any, config: Any) -> Any:
        return cls(config, seed=7)

    def dropped(self, model: Any, inputs: Arrays) -> Any:
        import jax

        return model(**inputs, train=True, dropout_rng=jax.random.PRNGKey(7))

    def gradients(self, model: Any, inputs: Arrays) -> dict[str, Any]:
        import jax
        from flax.traverse_util import flatten_dict

        key = jax.random.PRNGKey(7)
        loss = jax.grad(lambda params: model(**inputs, params=params, train=True, dropout_rng=key).loss)
        return flatten_dict(loss(model.params), sep="/")

    def compiled(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        import jax

        return jax.jit(function)

    def forget(self) -> None:
        import jax

        jax.clear_caches()  # of several gigabytes

    def structure(self, model: Any) -> dict[str, list[str]]:
        from flax.traverse_util import flatten_dict

        return {"parameters": list(flatten_dict(model.params, sep="/")), "module": described(model.module_class)}


FRAMEWORKS: dict[str, type[Framework]] = {cls.name: cls for cls in (PyTorch, TensorFlow, Flax)}


def is_base(cls: Any) -> bool:
    return cls._stem().endswith("PreTrainedModel") or cls._stem().startswith("Auto")


# -- inputs and weights -----------------------------------------------------------------------------------------------


def chance(name: str) -> np.random.Generator:
    """Return random numbers that depend on a name only."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def weights_of(schema: Any) -> dict[str, np.ndarray]:
    """Return random weights by canonical name: biases and norms are random too."""
    drawn = {w.name: 0.3 * chance(w.name).standard_normal(w.shape) + ("norm" in w.layout) for w in schema.stored()}
    return {name: array.astype(np.float32) for name, array in drawn.items()}


def inputs_of(config: Any, takes: list[str]) -> dict[str, np.ndarray]:
    """Return ids and a mask that ends with padding, and the other inputs that are usual for a class."""
    shape = (2, 11)
    mask = np.ones(shape, np.int64)
    mask[-1, 8:] = 0
    inputs = {"input_ids": chance("ids").integers(3, config.vocab_size, shape), "attention_mask": mask}
    if "token_type_ids" in takes:
        inputs["token_type_ids"] = chance("types").integers(0, getattr(config, "type_vocab_size", 1), shape)
    if "decoder_input_ids" in takes and "past_key_values" not in takes and "start_positions" not in takes:
        inputs["input_ids"][:, [2, 6]] = config.eos_token_id  # for T5, which classifies a text at its end
    elif "decoder_input_ids" in takes:
        inputs["decoder_input_ids"] = chance("decoder").integers(3, config.vocab_size, (2, 7))
    return inputs


def labels_of(stem: str, config: Any, inputs: Arrays, takes: list[str]) -> dict[str, np.ndarray]:
    """Return labels of the kind that a class takes, of which some do not count; none if it takes none."""
    rng = chance("labels")
    if "start_positions" in takes:
        return {"start_positions": np.array([1, 4]), "end_positions": np.array([2, 6])}
    if "labels" not in takes:
        return {}
    if stem.endswith("SequenceClassification"):
        return {"labels": rng.integers(0, config.num_labels, 2)}
    if stem.endswith("MultipleChoice"):
        return {"labels": np.array([1])}
    if stem.endswith("NextSentencePrediction"):
        return {"labels": np.array([1, 0])}
    if "next_sentence_label" in takes:
        labels = rng.integers(0, config.vocab_size, inputs["input_ids"].shape)
        return {"labels": labels, "next_sentence_label": np.array([1, 0])}
    classes = config.num_labels if stem.endswith("TokenClassification") else config.vocab_size
    classes = 2 if stem.endswith("PreTraining") else classes
    labels = rng.integers(0, classes, inputs.get("decoder_input_ids", inputs["input_ids"]).shape)
    if not stem.endswith("PreTraining"):
        labels[0, :3] = -100
    return {"labels": labels}


def other_inputs(config: Any, inputs: Arrays, takes: list[str], schema: Any) -> Iterator[tuple[str, Arrays]]:
    """Yield less usual inputs: masked heads; embeddings instead of ids, with positions of their own."""
    layers = {"decoder_head_mask": "num_decoder_layers", "cross_attn_head_mask": "num_decoder_layers"}
    masks = {}
    for name in [name for name in takes if name.endswith("head_mask")]:
        count = getattr(config, layers.get(name, "num_hidden_layers"))
        masks[name] = chance(name).integers(0, 2, (count, config.num_attention_heads)).astype(np.float32)
    if masks:
        yield "head_mask", {**inputs, **masks}
    if "inputs_embeds" in takes and not ("decoder_input_ids" in takes and "decoder_input_ids" not in inputs):
        width = next(w.shape[1] for w in schema.stored() if w.axes[0].name == "vocab" and w.layout == "embedding")
        given = {"inputs_embeds": chance("embeds").standard_normal((*inputs["input_ids"].shape, width), np.float32)}
        if "position_ids" in takes:
            given["position_ids"] = np.arange(inputs["input_ids"].shape[-1])[None, ::-1].copy()
        yield "embeds", {**{name: array for name, array in inputs.items() if name != "input_ids"}, **given}


TWO = {0: [1], 1: [0, 2]}
GROUPS = {0: [2, 3], 1: [0, 3, 4], 2: [0, 1, 2, 3, 5]}  # a whole group; one of every group; all but one head


def heads_of(config: Any, takes: list[str]) -> dict[int, list[int]]:
    """Return the heads to prune."""
    if getattr(config, "num_key_value_heads", None):
        return GROUPS
    return {**TWO, 2: [0], 4: [1, 2], 5: [2], 7: [0, 1]} if "cross_attn_head_mask" in takes else TWO


# -- what is computed -------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One class of one model, and where its results go."""

    record: Record
    framework: Framework
    cls: Any
    key: str
    """family/model/class"""

    def add(self, kind: str, found: Any) -> None:
        """Record every array in nested dicts, tuples and caches."""
        for name, value in flat(found):
            key = f"{self.key}/{kind}/{name}"
            if key in self.record.arrays:
                raise AssertionError(f"{key} was recorded twice")
            self.record.arrays[key] = np.array(self.framework.array(value), order="C")

    def write(self, kind: str, texts: Mapping[str, list[str]]) -> None:
        self.record.texts |= {f"{self.key}/{kind}/{name}": lines for name, lines in texts.items()}

    def loaded(self, config: Any, weights: Arrays, **options: Any) -> Any:
        self.framework.seed()
        return self.cls.from_pretrained(None, config=config, state_dict=weights, **options)

    def stored(self, model: Any) -> dict[str, np.ndarray]:
        """Return the weights by canonical name, as a save writes them."""
        from triptych import open_checkpoint

        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            return {name: np.array(ref.read()) for name, ref in open_checkpoint(folder).items()}


def flat(found: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value of every leaf: logits, hidden_states.0, past_key_values.keys.0, ..."""
    if found is None:
        return
    if hasattr(found, "get_seq_length"):  # a cache of PyTorch
        found = {"keys": found.keys, "values": found.values, "length": found.get_seq_length()}
    if isinstance(found, Mapping):
        parts = list(found.items())
    elif isinstance(found, (tuple, list)):
        parts = list(enumerate(found))
    else:
        yield name, found
        return
    for part, value in parts:
        yield from flat(value, f"{name}.{part}" if name else f"{part}")


GENERATING = ("LMHeadModel", "ForCausalLM", "ForConditionalGeneration")
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


def small_model(case: Case, make: Callable[..., Any], plain: bool) -> None:
    """Record one class of a small model; `plain` ones, one of each family, in every way."""
    framework, stem, takes = case.framework, case.cls._stem(), case.framework.takes(case.cls)
    config = make()
    schema = case.cls.declare_schema(config)
    weights = weights_of(schema)
    inputs = inputs_of(config, takes)
    labels = labels_of(stem, config, inputs, takes)
    if stem.endswith("MultipleChoice"):  # one question, and its two answers
        inputs = {name: array[None] for name, array in inputs.items()}
    case.write("schema", {"weights": schema_lines(schema), "config": make().to_json_string().splitlines()})
    model = case.loaded(make(), weights)
    case.add("forward", framework.run(model, {**inputs, **labels}, **EVERYTHING))
    case.add("counts", [model.num_parameters(), model.num_parameters(exclude_embeddings=True)])
    decoding(case, model, inputs, compiled=plain and stem.endswith(GENERATING))
    fresh = framework.built(case.cls, make())
    case.add("initial", case.stored(fresh))
    case.write("structure", framework.structure(fresh))
    if plain:
        for kind, other in other_inputs(config, inputs, takes, schema):
            case.add(kind, framework.run(model, other))
        case.add("tuple", framework.run(model, inputs, return_dict=False, **EVERYTHING))
        losses(case, make, inputs)
        training(case, make, weights, {**inputs, **labels}, bool(labels))
        low_precision(case, make, weights, inputs)
        new_heads(case, make, schema, weights)
        surgery(case, make, weights, inputs)


def decoding(case: Case, model: Any, inputs: Arrays, compiled: bool = False) -> None:
    """Record three steps with a cache, of a text with padding on the left; `compiled`, two more."""
    if "past_key_values" not in case.framework.takes(case.cls) or getattr(model.config, "cached_heads", None) is None:
        return
    name = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    ids, rest = inputs[name], {n: value for n, value in inputs.items() if n != name}
    length, cache = ids.shape[1], model.init_cache(2, 16)
    for start, end in ((0, 3), (3, 4), (4, length)):
        step: dict[str, Any] = {**rest, name: ids[:, start:end]}
        if name == "input_ids":
            step |= {n: value[:, start:end] for n, value in rest.items()}
            step["attention_mask"] = np.ones((2, end), np.int64)
            step["attention_mask"][1, :2] = 0
        output = case.framework.run(model, step, past_key_values=cache)
        if "past_key_values" not in output:
            return  # a head whose output has none
        cache = output["past_key_values"]
        case.add(f"decoding from {start}", output)
    if case.framework.name == "pt":
        case.add("use_cache", case.framework.run(model, inputs, use_cache=True))
    fixed = rest if name != "input_ids" else {}
    run = case.framework.compiled(
        lambda cache, ids: case.framework.run(model, {**fixed, name: ids}, past_key_values=cache)
    )
    if compiled and run is not None:
        cache = model.init_cache(2, 16)
        for start, end in ((0, 3), (3, 4)):
            output = run(cache, ids[:, start:end].astype(np.int32))
            cache = output["past_key_values"]
            case.add(f"compiled decoding from {start}", output)


def losses(case: Case, make: Callable[..., Any], inputs: Arrays) -> None:
    """Record the other losses of a class that classifies texts."""
    if not case.cls._stem().endswith("SequenceClassification"):
        return
    numbers, several = np.array([0.5, -1.0], np.float32), chance("several").integers(0, 2, (2, 4)).astype(np.float32)
    for kind, count, labels in (("regression", 1, numbers), ("several labels", 4, several)):
        config = make(num_labels=count)
        model = case.loaded(config, weights_of(case.cls.declare_schema(config)))
        case.add(kind, case.framework.run(model, {**inputs, "labels": labels}))


def training(case: Case, make: Callable[..., Any], weights: Arrays, inputs: Arrays, has_loss: bool) -> None:
    """Record gradients without dropout, and outputs with it."""
    rates = [name for name, value in make().to_dict().items() if "drop" in name and not isinstance(value, (str, bool))]
    if has_loss:
        model = case.loaded(make(**dict.fromkeys(rates, 0.0)), weights)
        case.add("gradients", case.framework.gradients(model, inputs))
    model = case.loaded(make(**dict.fromkeys(rates, 0.4)), weights)
    case.add("dropout", case.framework.dropped(model, inputs))


def low_precision(case: Case, make: Callable[..., Any], weights: Arrays, inputs: Arrays) -> None:
    """Record outputs in bfloat16: parameters and computation, and the computation alone where that is possible."""
    model = case.loaded(make(), weights, dtype="bfloat16", param_dtype="bfloat16")
    case.add("bfloat16", case.framework.run(model, inputs, **EVERYTHING))
    if case.framework.name != "pt":
        case.add("mixed", case.framework.run(case.loaded(make(), weights, dtype="bfloat16"), inputs))


def new_heads(case: Case, make: Callable[..., Any], schema: Any, weights: Arrays) -> None:
    """Record what a load initialises, where the checkpoint has a backbone only."""
    heads = [weight.name for weight in schema.stored() if not weight.backbone]
    if heads:
        model = case.loaded(make(), {name: array for name, array in weights.items() if name not in heads})
        found = case.stored(model)
        case.add("new head", {name: found[name] for name in heads})


def surgery(case: Case, make: Callable[..., Any], weights: Arrays, inputs: Arrays) -> None:
    """Record weights and outputs of models that were resized or pruned."""
    changes: dict[str, Callable[[Any], Any]] = {
        "grown": lambda model: model.resize_token_embeddings(37, pad_to_multiple_of=8),
        "grown plainly": lambda model: model.resize_token_embeddings(37, mean_resizing=False, seed=3),
        "shrunk": lambda model: model.resize_token_embeddings(20),
        "pruned": lambda model: model.prune_heads(heads_of(model.config, case.framework.takes(case.cls))),
    }
    for kind, change in changes.items():
        model = case.loaded(make(), weights)
        change(model)
        rows = model.config.vocab_size
        ids = {name: inputs[name] % rows for name in inputs if name.endswith("input_ids")}
        case.add(kind, {"weights": case.stored(model), "outputs": case.framework.run(model, {**inputs, **ids})})
        case.write("schema", {f"config, {kind}": model.config.to_json_string().splitlines()})


def golden_folder(case: Case, folder: Path, recorded: Arrays) -> None:
    """Record the weights and outputs of a folder that transformers wrote, and more of the main one."""
    names = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")
    inputs = {name: recorded[name] for name in names if name in recorded}
    low = {"param_dtype": "auto", "dtype": "bfloat16"} if folder.name.endswith("bf16") else {}
    model = case.cls.from_pretrained(folder, strict=True, **low)
    labels = labels_of(case.cls._stem(), model.config, inputs, case.framework.takes(case.cls))
    case.add("forward", case.framework.run(model, {**inputs, **labels}, **EVERYTHING))
    case.add("weights", case.stored(model))
    if folder.name == "pt-safetensors":
        decoding(case, model, inputs)
        if "head_mask" in recorded:
            case.add("head_mask", case.framework.run(model, {**inputs, "head_mask": recorded["head_mask"]}))
        model.resize_token_embeddings(pad_to_multiple_of=64)
        case.add("resized", case.framework.run(model, inputs))


# -- texts ------------------------------------------------------------------------------------------------------------


def schema_lines(schema: Any) -> list[str]:
    """Return everything that a schema declares, a weight a line."""

    def listed(thing: Any, leave_out: str = "") -> str:
        return " ".join(f"{f.name}={getattr(thing, f.name)!s}" for f in fields(thing) if f.name != leave_out)

    lines = [f"{listed(weight, 'axes')} axes={[listed(axis) for axis in weight.axes]}" for weight in schema.values()]
    return [f"prefix {schema.base_prefix!r}, base {schema.is_base}, ignorable {sorted(schema.ignorable)}", *lines]


def described(cls: Any) -> list[str]:
    """Return ancestors, signatures and the first line of the docstring of a class."""
    lines = [f"ancestor {ancestor.__name__}" for ancestor in cls.__mro__]
    for name in ("__init__", "forward", "call", "__call__"):
        if callable(getattr(cls, name, None)):
            lines.append(f"{name}{inspect.signature(getattr(cls, name))}")
    lines.append(f"doc {(cls.__doc__ or '').partition(chr(10))[0]}")
    return [re.sub(" at 0x[0-9a-f]+", "", line) for line in lines]


def structure_of_classes(framework: Framework, families: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield a key and the description of every public class, and of every part in the modules of the families."""
    for name in framework.module.__all__:
        cls = getattr(framework.module, name)
        kind = getattr(getattr(cls, "config_class", None), "model_type", None) or SHARED
        yield f"{kind}/public/{name}/structure/class", described(cls)
    for kind in sorted(families):
        module = importlib.import_module(f"{framework.package}.{kind}")
        for name, part in sorted(vars(module).items()):
            if inspect.isclass(part) and not name.startswith("_") and part.__module__.startswith("triptych"):
                yield f"{kind}/part/{name}/structure/class", described(part)


# -- one revision, in one framework: the child process ----------------------------------------------------------------


def child(name: str, root: Path, families: list[str], path: Path) -> None:
    """Compute everything with the code in `root`, which PYTHONPATH names, and save it."""
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    logging.getLogger("triptych").setLevel(logging.ERROR)  # it says what a load initialises
    framework = FRAMEWORKS[name]()
    record = Record()
    cases = [*small_cases(framework, record), *golden_cases(framework, record)]
    kinds = {family_of(case.key) for case, _ in cases}
    unknown = set(families) - kinds
    if unknown:
        raise SystemExit(f"no such family: {', '.join(sorted(unknown))}; there are {', '.join(sorted(kinds))}")
    record.texts |= dict(structure_of_classes(framework, kinds))
    for kind in sorted(families or kinds):
        for case, compute in cases:
            if family_of(case.key) == kind:
                try:
                    compute()
                except Exception as error:  # the other models are still to be computed; the parent fails for this one
                    record.errors[case.key] = f"{type(error).__name__}: {error}"
        framework.forget()
    refuse_foreign(root)
    record.save(path)


def end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def small_cases(framework: Framework, record: Record) -> Iterator[tuple[Case, Callable[[], None]]]:
    """Yield what to compute of every variant, with every class of its family."""
    from small_models import SMALL, VARIANTS

    by_kind: dict[str, list[Any]] = {}
    for cls in framework.classes():
        by_kind.setdefault(cls.config_class.model_type, []).append(cls)
    for variant, (kind, options) in VARIANTS.items():
        for cls in by_kind[kind]:
            case = Case(record, framework, cls, f"{kind}/{variant}/{cls._stem()}")
            two = {"num_labels": 2} if cls._stem().endswith("QuestionAnswering") else {}
            make = partial(cls.config_class, **{**SMALL[kind], **options, **two})
            yield case, partial(small_model, case, make, variant == kind)


def golden_cases(framework: Framework, record: Record) -> Iterator[tuple[Case, Callable[[], None]]]:
    """Yield what to compute of every folder, in every format, below `tests/golden` of the checkout of this script."""
    for file in sorted(GOLDEN.glob("*/*/config.json")):
        folder, config = file.parent, json.loads(file.read_text())
        cls = getattr(framework.module, framework.prefix + config["architectures"][0].removeprefix(framework.prefix))
        case = Case(record, framework, cls, f"{config['model_type']}/{folder.parent.name}:{folder.name}/{cls._stem()}")
        recorded = dict(np.load(folder.parent / "expected.npz"))
        yield case, partial(golden_folder, case, folder, recorded)


def refuse_foreign(root: Path) -> None:
    """Raise if a module of another checkout was imported."""
    installed = [Path(path).resolve() for path in (sys.prefix, sys.base_prefix)]
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path is None or not Path(path).is_absolute():  # there is no such file
            continue
        here = Path(path).resolve()
        if here == Path(__file__).resolve() or name.startswith("__autograph_generated_file"):  # by TensorFlow
            continue
        if name.startswith("triptych") and not here.is_relative_to(root):
            raise SystemExit(f"{name} is not of {root}, but {here}")
        if not any(here.is_relative_to(place) for place in (root, *installed)):
            raise SystemExit(f"{name} is of neither {root} nor the installed packages, but {here}")


# -- two revisions: the parent process --------------------------------------------------------------------------------


def checked_out(revision: str, folder: Path) -> Path:
    """Return `folder` with the files of a revision; the repository stays as it is."""
    done = subprocess.run(["git", "archive", "--format=tar", revision], cwd=CHECKOUT, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{revision!r} is neither a folder nor a revision: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def record_of(source: str, name: str) -> Path:
    return Path(source) / f"{name}.safetensors"


def is_record(source: str) -> bool:
    return any(record_of(source, name).exists() for name in FRAMEWORKS)


def compute(root: Path, name: str, families: list[str], folder: Path, cache: Path) -> Path:
    """Run the child process of one framework, and return the file of its record."""
    folder.mkdir(parents=True, exist_ok=True)
    path = record_of(str(folder), name)
    environment = {
        **{variable: value for variable, value in os.environ.items() if variable not in UNSET},
        **ENVIRONMENT,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONPATH": os.pathsep.join(str(root / source) for source in SOURCES),
    }
    command = [sys.executable, "-P", __file__, "--child", name, "--after", str(root), "--record", str(path)]
    command += ["--families", ",".join(families)] if families else []
    start = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        print(f"{name} of {root} failed:\n{done.stderr[-4000:]}", flush=True)
        raise SystemExit(1)
    print(f"computed {name} of {root}: {time.monotonic() - start:.0f} s", flush=True)
    return path


def take_compiled(source: str, cache: Path) -> None:
    """Copy what JAX compiled when the record was made, if that was on this machine."""
    made, record = Path(source) / COMPILED, record_of(source, "flax")
    if made.is_dir() and record.exists() and Record.load(record).machine == machine():
        shutil.copytree(made, cache, dirs_exist_ok=True)


def computed(sources: Mapping[str, str], names: list[str], families: list[str], scratch: Path, jobs: int) -> Any:
    """Return role -> framework -> record, for sources by their role."""
    tasks: dict[tuple[str, str], Any] = {}
    cache = scratch / COMPILED
    with ThreadPoolExecutor(jobs) as pool:
        for role, source in sources.items():
            if is_record(source):
                for name in names:
                    tasks[role, name] = pool.submit(record_of, source, name)
                take_compiled(source, cache)
        for role, source in sources.items():
            if not is_record(source):
                root = Path(source).resolve() if Path(source).is_dir() else checked_out(source, scratch / role)
                for name in sorted(names, key=SLOWEST_FIRST.index):
                    folder = scratch / f"{role}-records"
                    tasks[role, name] = pool.submit(compute, root, name, families, folder, cache)
    wanted = [*families, SHARED] if families else []
    return {role: {n: Record.load(tasks[role, n].result()).of(wanted) for n in names} for role in sources}


def difference(before: np.ndarray | None, after: np.ndarray | None) -> str | None:
    """Return in which way two arrays are not the same bits, or None."""
    if before is None or after is None:
        return "only after" if before is None else "only before"
    if (before.dtype, before.shape) != (after.dtype, after.shape):
        return f"{before.dtype} {before.shape} became {after.dtype} {after.shape}"
    if before.tobytes() == after.tobytes():
        return None
    with np.errstate(all="ignore"):
        largest = np.abs(before.astype(np.float64) - after.astype(np.float64)).max()
    bits = [array.reshape(-1).view(f"u{array.itemsize}") for array in (before, after)]
    return f"largest difference {largest:.3g}, in {np.count_nonzero(bits[0] != bits[1])} of {before.size} values"


def difference_of_texts(before: list[str] | None, after: list[str] | None) -> str | None:
    """Return the lines that two texts do not share, or None."""
    if before is None or after is None:
        return "only after" if before is None else "only before"
    lines = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
    return "".join(f"\n    {line}" for line in lines if not line.startswith("@@")) or None


def compared(before: Record, after: Record, structure: bool) -> tuple[list[str], Counter[str]]:
    """Return what differs; and counts of all arrays and texts, and by family and kind of those that differ."""
    counts: Counter[str] = Counter()
    lines: list[str] = []
    failed = set()
    for role, record in (("before", before), ("after", after)):
        failed |= set(record.errors)
        lines += [f"{key}: not computed {role}: {error}" for key, error in record.errors.items()]
    for key in sorted({*before.arrays, *after.arrays, *before.texts, *after.texts}):
        kind = kind_of(key)
        if case_of(key) in failed or (kind == "structure" and not structure):
            continue
        is_text = key in before.texts or key in after.texts
        if is_text:
            found = difference_of_texts(before.texts.get(key), after.texts.get(key))
        else:
            found = difference(before.arrays.get(key), after.arrays.get(key))
        counts[f"texts of {kind}" if is_text else "arrays"] += 1
        if found:
            counts[f"{family_of(key)}, {kind} differ"] += 1
            lines.append(f"{key}: {found}")
    return lines, counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a revision, a folder with a checkout, or a record")
    parser.add_argument("--after", default=str(CHECKOUT), help="the same; this checkout if not given")
    parser.add_argument("--record", type=Path, help="keep what --before computes in this folder, and compare nothing")
    parser.add_argument("--families", default="", help="of the families, only these: bert,roberta")
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS), help="of the frameworks, only these: pt,tf,flax")
    parser.add_argument("--no-structure", action="store_true", help="compare numbers, schemas and configs alone")
    parser.add_argument("--most", type=int, default=60, help="name at most so many differences of each framework")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes at a time")
    parser.add_argument("--child", choices=FRAMEWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    families = [family for family in arguments.families.split(",") if family]
    names = arguments.frameworks.split(",")
    if arguments.child:
        child(arguments.child, Path(arguments.after).resolve(), families, arguments.record)
        return 0
    if not arguments.before or not set(names) <= set(FRAMEWORKS):
        parser.error("--before is needed" if not arguments.before else f"the frameworks are {', '.join(FRAMEWORKS)}")
    with tempfile.TemporaryDirectory() as scratch:
        sources = {"before": arguments.before} | ({} if arguments.record else {"after": arguments.after})
        found = computed(sources, names, families, Path(scratch), arguments.jobs)
        if arguments.record:
            return recorded(arguments.record, found["before"], Path(scratch) / COMPILED)
    return reported(found["before"], found["after"], not arguments.no_structure, arguments.most)


def recorded(folder: Path, records: Mapping[str, Record], cache: Path) -> int:
    """Write records into a folder, unless something could not be computed."""
    errors = [f"{name} {key}: {error}" for name, record in records.items() for key, error in record.errors.items()]
    print(*errors[:60], sep="\n", end="\n" * bool(errors))
    if not errors:
        folder.mkdir(parents=True, exist_ok=True)
        for name, record in records.items():
            record.save(record_of(str(folder), name))
            print(f"{name}: {len(record.arrays)} arrays, {len(record.texts)} texts")
        if cache.is_dir():
            shutil.copytree(cache, folder / COMPILED, dirs_exist_ok=True)
    return int(bool(errors))


def reported(before: Mapping[str, Record], after: Mapping[str, Record], structure: bool, limit: int) -> int:
    """Print how the records of two revisions differ, and return the exit status."""
    different = False
    for name in before:
        lines, counts = compared(before[name], after[name], structure)
        for line in lines[:limit]:
            print(name, line)
        if len(lines) > limit:
            print(f"{name} ... and {len(lines) - limit} more, which --most {len(lines)} shows")
        print(f"{name}: " + "; ".join(f"{what} {count}" for what, count in counts.items()))
        if lines and before[name].machine != after[name].machine:
            print(f"{name}: not of one machine: {before[name].machine} and {after[name].machine}")
        different |= bool(lines)
    print("different" if different else "the same, bit for bit")
    return int(different)


if __name__ == "__main__":
    sys.exit(main())
