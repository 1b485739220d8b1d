"""Load models beside processes that save into the same folder without pause, and check that each load saw one save.

    python tests/race_saves.py --loads 20000

For every format and layout, one or two processes save a model, each time with another config and other weights; this
process loads it, with and without `mmap`, by its class and through `AutoModel`. A load is mixed if its weights are not
all of one save, or not of the save that its config is of; it is refused if it raises. Prints both for each setting, and
exits with status 1 if a load was mixed, or if one in a hundred was refused.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np

from triptych import AutoConfig, PretrainedConfig, TensorRef
from triptych.checkpoints.saving import save_checkpoint
from triptych.errors import TriptychError
from triptych.files.json import json_text
from triptych.formats.kinds import parse_format

LAYERS = 6
LAYOUTS = {
    "single": (10**9,),
    "shards": (600,),
    "single and shards": (10**9, 600, 1100),
}
FORMATS = ("safetensors", "bin", "h5", "msgpack")


class RaceConfig(PretrainedConfig):
    """The number of the save: every weight of the model has this value."""

    model_type = "race"

    def __init__(self, number: int = 0, **kwargs: Any) -> None:
        self.number = number
        super().__init__(**kwargs)


def model_class() -> Any:
    """Return the class that is loaded, known to `AutoModel`."""
    from torch import nn

    from triptych import AutoModel, PreTrainedModel

    class RaceModel(PreTrainedModel):
        config_class = RaceConfig

        def __init__(self, config: RaceConfig) -> None:
            super().__init__(config)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(LAYERS))
            self.post_init()

    AutoConfig.register("race", RaceConfig)
    AutoModel.register(RaceConfig, RaceModel)
    return RaceModel


def tensors_of(number: int, format: str) -> list[TensorRef]:
    """Return the weights of save `number` as files of `format` name them."""
    kernel, bias = {"h5": ("kernel:0", "bias:0"), "msgpack": ("kernel", "bias")}.get(format, ("weight", "bias"))
    between = {"h5": "_._", "msgpack": "/"}.get(format, ".")
    last = "/" if format in ("h5", "msgpack") else "."
    refs = []
    for layer in range(LAYERS):
        place = f"blocks{between}{layer}{last}"
        refs.append(TensorRef.of(f"{place}{kernel}", np.full((8, 8), number, np.float32)))
        refs.append(TensorRef.of(f"{place}{bias}", np.full(8, number, np.float32)))
    return refs


def save(folder: Path, number: int, format: str, size: int) -> None:
    config = {"model_type": "race", "number": number, "architectures": ["RaceModel"]}
    save_checkpoint(
        folder, tensors_of(number, format), json_text(config), max_shard_size=size, format=parse_format(format),
        scope="race",
    )  # fmt: skip


def numbers(first: int) -> Iterator[int]:
    """Return numbers that float32 tells apart and that no other saver uses."""
    return (first + 2 * step for step in range(2**22))


def save_for_ever(folder: Path, first: int, formats: tuple[str, ...], sizes: tuple[int, ...], errors: Any) -> None:
    try:
        for number, format, size in zip(numbers(first), cycle(formats), cycle(sizes), strict=False):
            save(folder, number, format, size)
    except TriptychError as error:
        errors.put(repr(error))


def values_of(model: Any) -> set[float]:
    """Return the numbers of the saves that the weights are of."""
    return {float(value) for parameter in model.parameters() for value in parameter.detach().unique()}


def race(cls: Any, folder: Path, formats: tuple[str, ...], sizes: tuple[int, ...], savers: int, loads: int) -> Counter:
    """Load `loads` times beside `savers` processes, with mmap and without in turns; return how these ended."""
    from triptych import AutoModel

    save(folder, 0, formats[0], sizes[0])
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    processes = [
        context.Process(target=save_for_ever, args=(folder, n + 1, formats, sizes, errors), daemon=True)
        for n in range(savers)
    ]
    found: Counter = Counter()
    seen: set[int] = set()
    for process in processes:
        process.start()
    try:
        while not any(folder.glob(".triptych-save-*")) and errors.empty():
            pass  # they import numpy first
        for number in range(loads):
            try:
                loader = cls if number % 4 < 2 else AutoModel
                model = loader.from_pretrained(folder, mmap=number % 2 == 0)
                seen.add(model.config.number)
                found["whole" if values_of(model) == {float(model.config.number)} else "mixed"] += 1
            except TriptychError as error:
                found["refused"] += 1
                found[f"refused: {type(error).__name__}"] += 1
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if not errors.empty():
        raise AssertionError(f"a save failed: {errors.get()}")
    found["different saves"] = len(seen)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=20_000, help="number of loads, over all settings")
    parser.add_argument("--step", type=int, default=1, help="of the settings, only every STEP-th")
    arguments = parser.parse_args()
    cls = model_class()
    settings = [
        *product([(format,) for format in FORMATS], LAYOUTS, (1, 2)),
        *product([FORMATS], LAYOUTS, (1, 2)),
    ][:: arguments.step]
    total: Counter = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for number, (formats, layout, savers) in enumerate(settings):
            loads = arguments.loads // len(settings) + (number < arguments.loads % len(settings))
            folder = Path(scratch) / str(number)
            found = race(cls, folder, formats, LAYOUTS[layout], savers, loads)
            print(f"{'+'.join(formats)}, {layout}, {savers} savers: {dict(found)}", flush=True)
            total += found
    mixed, refused = total["mixed"], total["refused"]
    print(
        f"{arguments.loads} loads, of {total['different saves']} different saves: {mixed} mixed, {refused} refused "
        f"({refused / arguments.loads:.2%})"
    )
    return int(mixed > 0 or refused >= arguments.loads / 100)


if __name__ == "__main__":
    sys.exit(main())
