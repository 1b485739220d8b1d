"""Fine-tune MiniLM to tell four topics apart, in one framework or in all three, and serve it from another.

    python examples/finetune.py                           # trained in each framework, served from the next
    python examples/finetune.py --train-in tf --serve-from flax --folder topics

Each framework trains in its own way: a loop in PyTorch, `fit` in Keras, a `TrainState` with optax in JAX. All start
from the same weights, see the same batches and, given one seed, drop the same units, so that their losses lie on one
curve; it is drawn into `--plot`. The sentences are made here, and those of the test use words never trained with.
Exits with status 1 if a model that was served is not the one that was trained, or did not learn.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import torch  # (before TensorFlow: the other order crashes some builds)
from demo import minilm
from tokenizers import Tokenizer
from tqdm import tqdm

from triptych_conformance import BACKENDS, Backend, compare

LABELS = ("food", "animals", "money", "weather")
WORDS = {
    "food": ("pasta noodles bread soup salad rice cheese pizza", "curry pancakes omelette dumplings"),
    "animals": ("cat dog horse rabbit sheep goat duck parrot", "kitten wolf donkey squirrel"),
    "money": ("loan budget mortgage salary tax invoice pension bond", "dividend refund deposit debt"),
    "weather": ("rain snow storm sunshine fog wind frost thunder", "hail drizzle heatwave blizzard"),
}
"""Of each topic the words to train with, and those to test with."""
FRAMES = (
    "yesterday the {} surprised all of us",
    "nobody expected the {} this morning",
    "my sister keeps talking about the {}",
    "we wrote a short story about the {}",
    "the {} was the best part of the day",
    "she sent me a picture of the {}",
)
LENGTH, BATCH = 16, 16
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01

Batch = dict[str, np.ndarray]


@dataclass
class Task:
    """Sentences as ids: `train` in the order of the steps, and `test`; `labels` int32 [sentences]."""

    train: list[Batch]
    test: Batch


def make_task(folder: Path, steps: int, seed: int) -> Task:
    """Return `steps` batches of `BATCH` sentences, and every sentence with a word of the test."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=LENGTH)
    tokenizer.enable_truncation(LENGTH)

    def encode(texts: list[tuple[str, int]]) -> Batch:
        encoded = tokenizer.encode_batch([text for text, _ in texts])
        return {
            "input_ids": np.array([one.ids for one in encoded], np.int32),
            "attention_mask": np.array([one.attention_mask for one in encoded], np.int32),
            "labels": np.array([label for _, label in texts], np.int32),
        }

    def sentences(part: int) -> list[tuple[str, int]]:
        pairs = itertools.product(FRAMES, enumerate(LABELS))
        return [(frame.format(word), i) for frame, (i, name) in pairs for word in WORDS[name][part].split()]

    known = sentences(0)
    order = np.random.default_rng(seed).integers(len(known), size=(steps, BATCH))
    return Task([encode([known[i] for i in row]) for row in order], encode(sentences(1)))


def without_labels(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name != "labels"}


def train_pt(model: Any, task: Task, bar: tqdm[Any]) -> Iterator[float]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for batch in task.train:
        loss = model(**{name: torch.tensor(value).long() for name, value in batch.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        bar.update()
        yield loss.item()


def train_tf(model: Any, task: Task, bar: tqdm[Any]) -> Iterator[float]:
    import keras
    import tensorflow as tf

    class Losses(keras.callbacks.Callback):
        """The loss of each batch; Keras logs the mean since the epoch began."""

        def __init__(self) -> None:
            super().__init__()
            self.of_batches: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.model.reset_metrics()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.of_batches.append(float(logs["loss"]))
            bar.update()

    losses = Losses()
    model.compile(keras.optimizers.AdamW(LEARNING_RATE, WEIGHT_DECAY, epsilon=1e-8))
    batches = {name: np.stack([batch[name] for batch in task.train]) for name in task.train[0]}
    model.fit(tf.data.Dataset.from_tensor_slices(batches), shuffle=False, callbacks=[losses], verbose=0)
    yield from losses.of_batches


def train_flax(model: Any, task: Task, bar: tqdm[Any]) -> Iterator[float]:
    import jax
    import optax
    from flax.training.train_state import TrainState

    @jax.jit
    def step(state: Any, batch: Batch, rng: Any) -> Any:
        def loss(params: Any) -> Any:
            logits = state.apply_fn(**without_labels(batch), params=params, dropout_rng=rng, train=True).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)
    keys = jax.random.split(jax.random.key(0), len(task.train))
    for batch, key in zip(task.train, keys, strict=True):
        state, value = step(state, batch, key)
        bar.update()
        yield float(value)
    model.params = state.params


TRAINERS: dict[str, Callable[[Any, Task, tqdm[Any]], Iterator[float]]] = {
    "pt": train_pt,
    "tf": train_tf,
    "flax": train_flax,
}


def scores(backend: Backend, model: Any, batch: Batch) -> np.ndarray:
    """Return float32 [sentences, topics], dropout off."""
    if backend.name == "pt":
        model.eval()
    return backend.run(model, without_labels(batch))["logits"]


def accuracy(logits: np.ndarray, batch: Batch) -> float:
    return float((logits.argmax(-1) == batch["labels"]).mean())


def start_of(folder: Path, scratch: Path) -> Path:
    """Save MiniLM with a new head, the one that all start from; return where."""
    torch.manual_seed(0)
    labels = dict(enumerate(LABELS))
    BACKENDS[0].load("AutoModelForSequenceClassification", folder, id2label=labels).save_pretrained(scratch)
    return scratch


def plot(losses: dict[str, list[float]], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for (name, values), style in zip(losses.items(), ("-", "--", ":"), strict=False):
        axes.plot(range(1, len(values) + 1), values, style, label=name, linewidth=2)
    axes.set(xlabel="step", ylabel="loss", title="MiniLM, four topics: one seed, one training run")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(target, dpi=150)
    pyplot.close(figure)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = [backend.name for backend in BACKENDS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train-in", choices=[*names, "all"], default="all", help="default: each of them")
    parser.add_argument("--serve-from", choices=names, help="default: the one after that which trained")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the trained models stay; default: nowhere")
    parser.add_argument("--plot", type=Path, default=Path("finetune.png"), help="where the losses are drawn")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    task = make_task(minilm(), options.steps, options.seed)
    backends = {backend.name: backend for backend in BACKENDS}
    following = dict(zip(backends, [*backends][1:] + [*backends][:1], strict=True))
    trained = list(backends) if options.train_in == "all" else [options.train_in]
    losses: dict[str, list[float]] = {}
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        start = start_of(minilm(), Path(scratch, "start"))
        for name in trained:
            model = backends[name].load("AutoModelForSequenceClassification", start)
            with tqdm(total=options.steps, desc=f"training in {name}") as bar:
                losses[name] = list(TRAINERS[name](model, task, bar))
            folder = (options.folder or Path(scratch)) / name
            model.save_pretrained(folder)
            other = backends[options.serve_from or following[name]]
            served = scores(other, other.load("AutoModelForSequenceClassification", folder), task.test)
            own = scores(backends[name], model, task.test)
            same, right = compare(served, own).fraction <= 1, accuracy(served, task.test)
            good &= same and right > 0.8
            print(f"trained in {name}: loss {losses[name][0]:.3f} -> {losses[name][-1]:.3f}, "
                  f"accuracy {accuracy(own, task.test):.1%}; served from {other.name}: {right:.1%}, "
                  f"scores {'the same' if same else 'NOT THE SAME'}")  # fmt: skip
    plot(losses, options.plot)
    print(f"losses drawn in {options.plot}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
