"""Models of Flax over four devices and of TensorFlow over two, all of them the CPU: a process of its own, as frameworks
count their devices once. Prints one line of JSON: name -> what was found."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import numpy as np
import tensorflow as tf
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from small_models import random_inputs
from triptych import ArgumentError, FlaxGPT2LMHeadModel, TFGPT2LMHeadModel
from triptych_conformance import Backend, compare

PROMPT = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.ones((1, 3), np.int64)}


def difference(backend: Backend, model: Any, reference: Any) -> float:
    """Return how far the logits of two models are apart, as a fraction of what the rule allows."""
    inputs = random_inputs(reference.config)
    one, other = (logits(backend, each, inputs) for each in (model, reference))
    return compare(one, other).fraction


def logits(backend: Backend, model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return the logits; of Flax compiled, which takes a part of the time."""
    if backend.name != "flax":
        return backend.run(model, inputs)["logits"]
    return np.asarray(jax.jit(lambda params: model(**inputs, params=params).logits)(model.params))


def same_weights(backend: Backend, one: Any, other: Any) -> bool:
    weights = backend.weights(other)
    return all(np.array_equal(array, weights[name]) for name, array in backend.weights(one).items())


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except ArgumentError as error:
        return str(error)
    return ""


def noting(call: Callable[[Any], Any], devices: list[str]) -> Callable[[Any], Any]:
    def noted(x: Any) -> Any:
        made = call(x)
        devices.append(made.device)
        return made

    return noted


def compared(backend: Backend, model: Any, reference: Any, folder: Path) -> dict[str, Any]:
    """Return what must not depend on where a model is."""
    model.save_pretrained(folder)
    return {
        "difference": difference(backend, model, reference),
        "saved": same_weights(backend, type(model).from_pretrained(folder), reference),
    }


def same_text(model: Any, reference: Any) -> bool:
    made, plain = (one.generate(**PROMPT, max_new_tokens=4, eos_token_id=30) for one in (model, reference))
    return bool(np.array_equal(getattr(made, "sequences", made), getattr(plain, "sequences", plain)))


def of_flax(folder: Path, headless: Path) -> dict[str, Any]:
    backend, cls, devices = Backend("flax"), FlaxGPT2LMHeadModel, jax.devices()
    mesh = Mesh(np.array(devices), ("model",))
    rules = {r"c_(attn|fc)\.weight": P(None, "model"), r"c_proj\.weight": P("model", None)}
    on_host = SingleDeviceSharding(devices[3], memory_kind="pinned_host")
    reference, found = cls.from_pretrained(folder), {}
    for name, options in {
        "device": {"device": "cpu:2"},
        "rules": {"mesh": mesh, "sharding": rules},
        "host": {"sharding": lambda weight, shape: on_host},
    }.items():
        model = cls.from_pretrained(folder, **options)
        kernel = model.params["transformer"]["h"]["1"]["mlp"]["c_fc"]["weight"]
        found[name] = {
            **compared(backend, model, reference, folder / name),
            "where": [kernel.sharding.memory_kind, sorted(device.id for device in kernel.sharding.device_set)],
            "shard": list(kernel.addressable_shards[0].data.shape),
        }
        model.resize_token_embeddings(40)
        found[name]["resized"] = sorted(d.id for d in model.get_input_embeddings().sharding.device_set)
    host = cls.from_pretrained(folder, sharding=on_host)
    found["text"] = same_text(host, reference)
    headed = cls.from_pretrained(headless, mesh=mesh)
    found["new head"] = sorted({len(leaf.sharding.device_set) for leaf in jax.tree.leaves(headed.params)})
    one = SingleDeviceSharding(devices[1])
    found["refused"] = {
        name: refused(lambda options=options: cls.from_pretrained(folder, **options))  # type: ignore[misc]
        for name, options in {
            "auto": {"device_map": "auto"}, "layers": {"device_map": {"transformer": 0, "lm_head": 1}},
            "unknown": {"device": "nonsense"}, "no mesh": {"sharding": P("model")}, "none": {"sharding": 3},
            "two sets": {"sharding": {"c_fc": one}}, "other axis": {"mesh": mesh, "sharding": P("data")},
            "indivisible": {"mesh": mesh, "sharding": {"wte": P("model", None)}},
            "both": {"device": 0, "device_map": "cpu"},
        }.items()
    }  # fmt: skip
    found["mapped"] = NamedSharding(mesh, P()).is_fully_replicated and refused(
        lambda: cls.from_pretrained(folder, device_map={"": "cpu"})
    )
    return found


def of_tensorflow(folder: Path) -> dict[str, Any]:
    backend, cls = Backend("tf"), TFGPT2LMHeadModel
    reference, found = cls.from_pretrained(folder), {}
    size = sum(array.nbytes for array in backend.weights(reference).values())
    for name, options in {
        "layers": {"device_map": {"": "cpu", "transformer.h.1": "CPU:1"}},
        "one": {"device_map": "CPU:1"},
        "auto": {"device_map": "auto", "max_memory": {"CPU:1": size * 3 // 4, "cpu": size}},
    }.items():
        model = cls.from_pretrained(folder, **options)
        variables = {".".join(path): variable for path, variable in model._variables().items()}
        places = {name: variable.value.device.rpartition("device:")[2] for name, variable in variables.items()}
        inputs = random_inputs(model.config)
        compiled = tf.function(lambda ids, mask, m=model: m(input_ids=ids, attention_mask=mask).logits)
        graph = compiled(inputs["input_ids"], inputs["attention_mask"])
        ran: list[str] = []
        model.transformer.h[1].ln_1.call = noting(model.transformer.h[1].ln_1.call, ran)
        found[name] = {
            **compared(backend, model, reference, folder / f"tf-{name}"),
            "map": dict(model.hf_device_map),
            "places": places,
            "ran": ran[0].rpartition("device:")[2],
            "graph": compare(graph.numpy(), backend.run(reference, inputs)["logits"]).fraction,
        }
        with tf.GradientTape() as tape:
            loss = model(**inputs, labels=inputs["input_ids"]).loss
        found[name]["gradients"] = len([g for g in tape.gradient(loss, model.trainable_variables) if g is not None])
        model.resize_token_embeddings(40)
        found[name]["resized"] = model.get_input_embeddings().embeddings.value.device.rpartition("device:")[2]
    found["text"] = same_text(
        cls.from_pretrained(folder, device_map={"": "cpu", "transformer.h.1": "CPU:1"}), reference
    )
    found["compiled"] = refused(
        lambda: cls.from_pretrained(folder, device_map={"": "cpu", "lm_head": "CPU:1", "transformer.h.0": "CPU:1"})
        .generate(**PROMPT, max_new_tokens=2, jit_compile=True)
    )  # fmt: skip
    found["refused"] = {
        name: refused(lambda options=options: cls.from_pretrained(folder, **options))  # type: ignore[misc]
        for name, options in {
            "auto": {"device_map": "auto"}, "disk": {"device_map": {"": "cpu", "lm_head": "disk"}},
            "unknown": {"device_map": {"": "CPU:7"}}, "lacking": {"device_map": {"lm_head": "cpu"}},
            "none": {"device_map": 3.5},
            "no room": {"device_map": "auto", "max_memory": {"cpu": 1000}},
        }.items()
    }  # fmt: skip
    return found


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    folder, headless = map(Path, sys.argv[1:])
    print(json.dumps({"flax": of_flax(folder, headless), "tf": of_tensorflow(folder)}))
