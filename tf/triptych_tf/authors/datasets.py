"""Data for `fit`, and the card of a model that was trained by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.hub.cards import trained_card
from triptych_tf.authors.checks import expect, expect_mapping, expect_whole, path_of

CARD = "README.md"


class Datasets:
    """Part of `TFPreTrainedModel`."""

    def prepare_tf_dataset(
        self,
        dataset: Any,
        batch_size: int | None = 8,
        shuffle: bool = True,
        tokenizer: Any = None,
        collate_fn: Callable[..., Mapping[str, Any]] | None = None,
        collate_fn_args: Mapping[str, Any] | None = None,
        drop_remainder: bool | None = None,
        prefetch: bool = True,
    ) -> tf.data.Dataset:
        """Return batches of a `datasets.Dataset` for `fit`: the columns that the model takes, and labels apart.

        Args:
            dataset: has `column_names`, a length, and `dataset[i]` as a dict; or a dict of columns, arrays or lists of
                one length.
            batch_size: None for single examples.
            shuffle: another order in each epoch.
            tokenizer: its `pad` makes batches; without it and `collate_fn`, examples are stacked.
            collate_fn: makes a dict of arrays of a list of examples; called with `collate_fn_args` too.
            drop_remainder: leave out a last batch that is smaller; by default if `shuffle`.

        Raises:
            ArgumentError: `dataset` is something else, or has none of the model's inputs; another argument is of
                another kind; examples of different lengths are to be stacked.
        """
        dataset = _Columns(dataset) if isinstance(dataset, Mapping) else dataset
        if not all(hasattr(dataset, name) for name in ("column_names", "__getitem__", "__len__")):
            raise ArgumentError(
                "This is no dataset.",
                expected="a datasets.Dataset, or a dict of columns",
                received=type(dataset).__name__,
            )
        if batch_size is not None:
            expect_whole("batch_size", batch_size, 1)
        expect(tokenizer is None or hasattr(tokenizer, "pad"), "tokenizer", "an object with `pad`", tokenizer)
        expect(collate_fn is None or callable(collate_fn), "collate_fn", "a function", collate_fn)
        labels = set(self._targets) | {"label", "label_ids"}  # type: ignore[attr-defined]
        called_with = self._called_with()  # type: ignore[attr-defined]
        columns = [name for name in dataset.column_names if name in called_with or name in labels]
        if not set(columns) - labels:
            raise ArgumentError("The dataset has no column that the model takes.", expected=", ".join(called_with),
                                received=", ".join(dataset.column_names))  # fmt: skip
        collate = _collated(tokenizer, collate_fn, collate_fn_args or {})
        drop = shuffle if drop_remainder is None else drop_remainder

        def batches() -> Iterator[Any]:
            order = np.random.permutation(len(dataset)) if shuffle else np.arange(len(dataset))
            size = batch_size or 1
            for start in range(0, len(order) - (size - 1 if drop else 0), size):
                chosen = [dataset[int(place)] for place in order[start : start + size]]
                batch = collate([{name: one[name] for name in columns} for one in chosen])
                expect_mapping("what makes a batch", batch, "returns names and arrays")
                arrays = {name: np.asarray(value) for name, value in batch.items()}
                yield arrays if batch_size else {name: value[0] for name, value in arrays.items()}

        first = next(batches(), None)
        if first is None:
            raise ArgumentError("The dataset is smaller than one batch.", expected=f"{batch_size} examples",
                                received=str(len(dataset)))  # fmt: skip
        open_axes = {name: _with_open_axes(value) for name, value in first.items()}
        found = tf.data.Dataset.from_generator(batches, output_signature=open_axes)
        found = found.map(lambda batch: _parted(batch, labels))
        count = (len(dataset) // batch_size if drop else -(-len(dataset) // batch_size)) if batch_size else len(dataset)
        found = found.apply(tf.data.experimental.assert_cardinality(count))
        return found.prefetch(tf.data.AUTOTUNE) if prefetch else found

    def create_model_card(
        self,
        output_dir: str | os.PathLike[str],
        model_name: str,
        language: str | None = None,
        license: str | None = None,
        tags: str | Sequence[str] | None = None,
        finetuned_from: str | None = None,
        tasks: str | Sequence[str] | None = None,
        dataset_tags: str | Sequence[str] | None = None,
        dataset: str | Sequence[str] | None = None,
        dataset_args: str | Sequence[str] | None = None,
    ) -> None:
        """Write `README.md` into a folder: a model card with what `fit` noted of each epoch.

        Args:
            model_name: its title.
            tasks, dataset_tags, dataset, dataset_args: what it was trained for and on, and the arguments of the
                dataset, as the metadata of a card has them.
        """
        history = getattr(self, "history", None)
        described = {"language": language, "license": license, "tags": tags, "finetuned_from": finetuned_from,
                     "tasks": tasks, "dataset_tags": dataset_tags, "dataset": dataset,
                     "dataset_args": dataset_args}  # fmt: skip
        self._write_card(output_dir, model_name, history.history if history is not None else {}, described)

    def _write_card(
        self,
        output_dir: str | os.PathLike[str],
        model_name: str,
        history: Mapping[str, Sequence[float]],
        described: Mapping[str, Any],
    ) -> None:
        """Write a model card as `create_model_card` does, whose other arguments are `described`."""
        given = described.get
        metadata = {
            "language": given("language"),
            "license": given("license"),
            "tags": _listed(given("tags")),
            "base_model": given("finetuned_from") or self.name_or_path or None,  # type: ignore[attr-defined]
            "pipeline_tag": next(iter(_listed(given("tasks"))), None),
            "datasets": _listed(given("dataset_tags")),
        }
        trained_on = [" ".join(pair) for pair in _paired(_listed(given("dataset")), _listed(given("dataset_args")))]
        text = trained_card(model_name, metadata, trained_on, history)
        folder = path_of("output_dir", output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD).write_text(text, encoding="utf-8")

    def _save_checkpoint(self, checkpoint_dir: Any, epoch: int) -> None:
        raise ArgumentError(
            "Training states are not saved by the model: transformers 4 pickled them.",
            remedy="pass keras.callbacks.BackupAndRestore(folder) to fit, or ModelCheckpoint",
        )


class _Columns:
    """A dict of columns as a dataset."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        lengths = {name: len(column) if hasattr(column, "__len__") else 0 for name, column in columns.items()}
        expect(len(set(lengths.values())) == 1, "dataset", "columns of one length", str(lengths))
        self._columns, self._length = columns, next(iter(lengths.values()))
        self.column_names = [*columns]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {name: column[place] for name, column in self._columns.items()}


def _collated(
    tokenizer: Any, collate_fn: Any, arguments: Mapping[str, Any]
) -> Callable[[list[Any]], Mapping[str, Any]]:
    if collate_fn is not None:
        return lambda examples: collate_fn(examples, **arguments)
    if tokenizer is not None:
        return lambda examples: tokenizer.pad(examples, return_tensors="np")
    return lambda examples: {name: _stacked(name, [np.asarray(one[name]) for one in examples]) for name in examples[0]}


def _stacked(name: str, arrays: list[np.ndarray]) -> np.ndarray:
    shapes = list(dict.fromkeys(array.shape for array in arrays))
    if len(shapes) > 1:
        raise ArgumentError(f"Examples of different shapes cannot be stacked: {name}.", expected="one shape",
                            received=", ".join(map(str, shapes[:4])), remedy="pass a tokenizer or a collate_fn, "
                            "which pads them")  # fmt: skip
    return np.stack(arrays)


def _with_open_axes(array: np.ndarray) -> tf.TensorSpec:
    dtype = np.int64 if array.dtype.kind in "iub" and array.dtype != bool else array.dtype
    return tf.TensorSpec([None] * array.ndim, tf.as_dtype(np.float32 if dtype == np.float64 else dtype))


def _parted(batch: Mapping[str, Any], labels: set[str]) -> Any:
    """Return inputs and labels of a batch, each alone where it is the only one."""
    y = {name: value for name, value in batch.items() if name in labels}
    x = {name: value for name, value in batch.items() if name not in labels}
    if len(y) == 1:
        y = next(iter(y.values()))
    if len(x) == 1:
        x = next(iter(x.values()))
    return (x, y) if not isinstance(y, dict) or y else x


def _listed(value: str | Sequence[str] | None) -> list[str]:
    expect(value is None or isinstance(value, (str, Iterable)), "what a card lists", "a text, or several", value)
    return [value] if isinstance(value, str) else list(value or ())


def _paired(names: list[str], arguments: list[str]) -> list[tuple[str, ...]]:
    return [(name, *arguments[place : place + 1]) for place, name in enumerate(names)]
