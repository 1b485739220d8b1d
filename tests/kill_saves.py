"""Kill a save with SIGKILL, at random moments and before every file operation, and check what is left.

    python tests/kill_saves.py --kills 200

Each trial prepares a folder that holds an old checkpoint and foreign files, forks a child that saves a new one over it,
kills the child, and checks that the folder loads wholly old or wholly new, by triptych and by following the config's
pointer, the single file or the index as transformers does; that nothing else changed; and that the next save leaves
exactly its own files, if it is asked to remove what is stale. Weights of other formats that no save of triptych wrote
are kept at every moment, under their names or, once they would be read in place of what was saved, under another.
With --variant, the weights are those of a variant. With --manifest, every folder must be as its manifest says: both
saves write one, or only the old one does, which then says nothing of the new weights. With --config-alone, a config is
saved to the folder before that, and must not change which weights are read. Exits with status 1 if a check fails.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from triptych.checkpoints.beside import STALE
from triptych.checkpoints.holding import hold
from triptych.checkpoints.saving import save_checkpoint
from triptych.checkpoints.verifying import Wanted
from triptych.config import PretrainedConfig
from triptych.errors import IntegrityError, MissingFileError
from triptych.formats.kinds import BIN, H5, MSGPACK, SAFETENSORS, read_order
from triptych.tensors.ref import TensorRef
from triptych.tools.verifying import verify_folder

TENSORS = 12
WIDTH = 64
SHARD = 4 * WIDTH * WIDTH  # bytes of one tensor
LAYOUTS = {
    "shards": (SAFETENSORS, SHARD),
    "fewer": (SAFETENSORS, 3 * SHARD),
    "single": (SAFETENSORS, 10**9),
    "h5": (H5, 10**9),
    "h5 shards": (H5, 3 * SHARD),
    "bin": (BIN, 10**9),
    "msgpack shards": (MSGPACK, 3 * SHARD),
}
TRANSITIONS = [
    ("shards", "shards"),
    ("shards", "single"),
    ("single", "shards"),
    ("shards", "fewer"),
    ("single", "single"),
    ("single", "h5"),
    ("shards", "msgpack shards"),
    ("msgpack shards", "single"),
    ("bin", "h5 shards"),
    ("h5 shards", "h5"),
    ("h5", "bin"),
    ("with others", "single"),
    ("with others", "shards"),
    ("others' single", "bin"),
    ("others' single", "h5 shards"),
]
FOREIGN = {
    "README.md": b"# mine",
    "tokenizer.json": b"{}",
    "modeling_mine.py": b"x = 1",
    "model.safetensors.bak": b"backup",
    "model.fp16.safetensors": b"another variant",
    "generation_config.json": b"{}",
}


OTHERS = {
    "with others": [BIN, H5, MSGPACK],  # beside safetensors of our own
    "others' single": [SAFETENSORS],  # and these are what is loaded
}
"""Transitions from weights of which some are of no save of triptych: in which formats these are."""

variant: str | None = None
"""Whose weights are saved; set once, from the command line."""
manifests: frozenset[int] = frozenset()
"""The generations whose saves write a manifest; likewise."""


def config_text(generation: int) -> str:
    return json.dumps({"generation": generation, "model_type": "none"}, indent=2, sort_keys=True) + "\n"


def save(folder: Path, generation: int, layout: str, new_config: bool, remove_stale: bool = False) -> None:
    text = config_text(generation if new_config else 0)
    refs = [TensorRef.of(name, array) for name, array in expected(generation).items()]
    format, size = LAYOUTS[layout]
    save_checkpoint(
        folder,
        refs,
        text,
        max_shard_size=size,
        format=format,
        scope="model",
        variant=variant,
        remove_stale=remove_stale,
        manifest=generation in manifests and not remove_stale,
    )


def expected(generation: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(generation)
    return {f"layer/t{i}:0": rng.standard_normal((WIDTH, WIDTH), dtype=np.float32) for i in range(TENSORS)}


def generation_of(arrays: dict[str, np.ndarray]) -> int:
    """Return 1 (old) or 2 (new); raise for anything else."""
    for generation in (1, 2):
        want = expected(generation)
        if set(want) == set(arrays) and all(np.array_equal(want[n], arrays[n]) for n in want):
            return generation
    raise AssertionError("the folder holds neither the old nor the new weights")


def read_as_triptych(folder: Path, framework: str) -> dict[str, np.ndarray]:
    checkpoint = hold(folder, variant=variant, order=read_order(framework)).checkpoint
    return {name: np.array(checkpoint[name].read()) for name in checkpoint}


def read_as_transformers(folder: Path) -> dict[str, np.ndarray] | None:
    """Return what the config's pointer, the single file or the index leads to; None if that is no safetensors file, or
    if a variant is saved, whose pointer transformers does not know."""
    if variant is not None:
        return None
    pointer = json.loads((folder / "config.json").read_text()).get("transformers_weights")
    if pointer is None:
        pointer = "model.safetensors" if (folder / "model.safetensors").is_file() else "model.safetensors.index.json"
    if ".safetensors" not in pointer or not (folder / pointer).is_file():
        return None
    if pointer.endswith(".safetensors"):
        return load_file(folder / pointer)
    weight_map = json.loads((folder / pointer).read_text())["weight_map"]
    arrays: dict[str, np.ndarray] = {}
    for shard in sorted(set(weight_map.values())):
        arrays |= load_file(folder / shard)
    return arrays


def check(folder: Path, new_config: bool) -> int:
    """Return which generation the folder holds, after every check."""
    found = {generation_of(read_as_triptych(folder, framework)) for framework in ("pt", "tf", "flax")}
    theirs = read_as_transformers(folder)
    found |= set() if theirs is None else {generation_of(theirs)}
    assert len(found) == 1, "triptych in one framework, in another, and transformers would read different weights"
    generation = found.pop()
    if new_config:
        config = json.loads((folder / "config.json").read_text())
        assert config["generation"] == generation, "config.json belongs to the other checkpoint"
    for name, content in FOREIGN.items():
        assert (folder / name).read_bytes() == content, f"{name} changed"
    return generation


def check_manifest(folder: Path, generation: int) -> None:
    """Check that the manifest is of what is there, file by file, or that there is none."""
    try:
        _, differences = verify_folder(folder, Wanted(), variant)
    except (MissingFileError, IntegrityError) as error:
        assert generation not in manifests, f"the manifest of what is there is lost: {error}"
    else:
        assert generation in manifests and not differences, f"the manifest is wrong: {differences}"


def check_others(folder: Path, before: str, others: dict[str, bytes]) -> None:
    """Check that what was of no save of triptych is there, each file under its name or, set aside, under another."""
    for name, content in others.items():
        kept = [path for path in folder.glob(f"{name}*") if path.read_bytes() == content]
        assert kept, f"{name} of somebody else is gone"
        assert before != "with others" or name.endswith(".msgpack") or (folder / name) in kept, f"{name} was moved"


def check_next_save(folder: Path) -> None:
    """Save a single file, and remove what is stale: it and the foreign files must then be all there is."""
    save(folder, 2, "single", True, remove_stale=True)
    assert check(folder, True) == 2
    own = {"config.json", SAFETENSORS.names(variant)[0]}
    left = {path.name for path in folder.iterdir() if STALE not in path.name} - set(FOREIGN) - own
    assert not left, f"left behind: {sorted(left)}"


def count_operations(folder: Path, limit: int | None) -> list[int]:
    """Count file operations below `folder` from now on; before number `limit`, kill this process."""
    seen = [0]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "open", "os.truncate") and str(
            folder
        ) in str(arguments[0]):
            seen[0] += 1
            if seen[0] == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def prepare(before: str, root: Path, new_config: bool = True) -> Path:
    folder = Path(tempfile.mkdtemp(dir=root))
    new_config = new_config or not manifests  # one that is written by hand is not in them
    save(folder, 1, "single" if before in OTHERS else before, new_config)
    if before == "others' single":
        save_file(expected(1), folder / SAFETENSORS.names(variant)[0], {"format": "pt"})
    if before == "with others":
        for format in OTHERS[before]:
            (folder / format.names(variant)[0]).write_bytes(f"{format.name} of somebody else".encode())
    if before.endswith("shards"):
        save(folder, 1, before, new_config)  # its shards then have generation names, and the usual ones are free
    for name, content in FOREIGN.items():
        (folder / name).write_bytes(content)
    return folder


def save_config_alone(folder: Path, generation: int) -> bool:
    """Save the config of `generation`, which the folder holds, and return whether its weights are still read."""
    PretrainedConfig(generation=generation).save_pretrained(folder)
    return generation_of(read_as_triptych(folder, "pt")) == generation


def trial(
    before: str,
    after: str,
    new_config: bool,
    root: Path,
    at: float | None,
    operation: int | None,
    lost: list[str] | None,
) -> int | None:
    """Run one trial; return the generation found, or None if the child ended before it was killed.

    A trial in which a config that was saved alone changed the weights is added to the list `lost`, if there is one.
    """
    folder = prepare(before, root, new_config)
    names = [format.names(variant)[0] for format in OTHERS.get(before, ())]
    others = {name: (folder / name).read_bytes() for name in names}
    if not new_config and not manifests:
        (folder / "config.json").write_text(config_text(0))
    child = os.fork()
    if child == 0:
        if operation is not None:
            count_operations(folder, operation)
        save(folder, 2, after, new_config)
        os._exit(0)
    if at is not None:
        time.sleep(at)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    generation = check(folder, new_config)
    check_others(folder, before, others)
    if manifests and (before != "others' single" or generation == 2):
        check_manifest(folder, generation)
    if lost is not None and not save_config_alone(folder, generation):
        lost.append(f"{before} -> {after}")
    check_next_save(folder)
    shutil.rmtree(folder)
    return generation if os.WIFSIGNALED(status) else None


def operations_of(before: str, after: str, new_config: bool, root: Path) -> int:
    """Return how many file operations the save makes."""
    folder = prepare(before, root, new_config)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        seen = count_operations(folder, None)
        save(folder, 2, after, new_config)
        os.write(writer, str(seen[0]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    return int(os.read(reader, 32))


def duration_of(before: str, after: str, root: Path) -> float:
    folder = prepare(before, root)
    start = time.monotonic()
    save(folder, 2, after, True)
    return time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="number of random kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every-operation", action="store_true", help="also kill before each file operation")
    parser.add_argument("--step", type=int, default=1, help="of those, only every STEP-th")
    parser.add_argument("--variant", help="save the weights of this variant")
    parser.add_argument("--config-alone", action="store_true", help="save a config alone after each kill")
    parser.add_argument("--manifest", choices=("both", "old"), help="which saves write a manifest")
    arguments = parser.parse_args()
    logging.getLogger("triptych").setLevel(logging.ERROR)  # it warns of each file that it sets aside
    global variant, manifests
    variant = arguments.variant
    manifests = frozenset({"both": (1, 2), "old": (1,)}.get(arguments.manifest, ()))
    lost: list[str] | None = [] if arguments.config_alone else None
    chance = random.Random(arguments.seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for number in range(arguments.kills):
            before, after = TRANSITIONS[number % len(TRANSITIONS)]
            longest = 1.3 * duration_of(before, after, root)
            new_config = number % 2 == 0
            result = trial(before, after, new_config, root, chance.uniform(0, longest), None, lost)
            found[{None: "finished", 1: "old", 2: "new"}[result]] += 1
        if arguments.every_operation:
            for before, after in TRANSITIONS:
                for new_config in (False, True):
                    for operation in range(1, operations_of(before, after, new_config, root) + 1, arguments.step):
                        result = trial(before, after, new_config, root, None, operation, lost)
                        found[{None: "finished", 1: "old", 2: "new"}[result]] += 1
    print(f"{sum(found.values())} saves killed or finished, every folder whole: {dict(found)}")
    if lost:
        print(f"{len(lost)} of them lost their weights to a config saved alone: {dict(Counter(lost))}")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
