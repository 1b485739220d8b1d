"""Inputs and labels that fit a model, the same on every machine, by its config; or those of a file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.errors import ArgumentError

Inputs = dict[str, np.ndarray]
_WITHIN = ("encoder", "text_config", "vision_config", "audio_config")
"""Where a config holds those of its parts."""


def make_inputs(config: Any, stem: str, *, main: str = "input_ids", batch: int = 2, length: int = 12,
                seed: int = 0) -> Inputs:  # fmt: skip
    """Return arguments of a call of the class `stem` of `config`, which first of all reads `main`.

    - input_ids: int64 [batch, length], with an `attention_mask` that has a zero between others, and some at its end, in
      the last row. For multiple choice the batch is that of one question.
    - pixel_values: float32 [batch, num_channels, *image_size], as in all three frameworks of transformers 4.
    - input_features: float32 [batch, num_mel_bins, frames], so many frames as max_source_positions asks for, else
      `length`; of a config without num_mel_bins [batch, length, W], W its input_feat_per_channel or
      feature_projection_input_dim.
    - input_values: float32 [batch, samples], enough for `length` frames of the config's convolutions; of a config with
      num_mel_bins [batch, max_length, num_mel_bins].

    An encoder-decoder reads `decoder_input_ids` as well.

    Args:
        main: the `main_input_name` of the class.

    Raises:
        ArgumentError: the config does not say how large such an input is, or `main` is none of these.
    """
    rng = np.random.default_rng(seed)
    if main != "input_ids":
        inputs = {main: _MAKERS.get(main, _unknown)(config, stem, main, rng, batch, length)}
    else:
        words = _words(config, stem, main)
        mask = np.ones((batch, length), np.int64)
        padding = _padding(config, length)
        mask[-1, length - padding :] = 0
        if padding:  # of a text that is read from left to right nothing sees what is masked at its end
            mask[-1, length // 3] = 0
        inputs = {"input_ids": rng.choice(words, (batch, length)), "attention_mask": mask}
    if getattr(config, "is_encoder_decoder", False) and not stem.endswith(("EncoderModel", "TokenClassification")):
        if stem.endswith("SequenceClassification") and main == "input_ids":  # reads where a text ends
            inputs["input_ids"][:, length - length // 4 - 1] = config.eos_token_id
        else:
            words = _words(config, stem, main)
            inputs["decoder_input_ids"] = rng.choice(words, (batch, max(2, length // 2)))
    if stem.endswith(("MultipleChoice", "DoubleHeadsModel")):
        return {name: array[None] for name, array in inputs.items()}
    return inputs


def _words(config: Any, stem: str, main: str) -> np.ndarray:
    """Return the ids that a text may have: those that mean nothing in particular."""
    count = _find(config, "vocab_size")
    if not isinstance(count, int):
        raise _refusal(config, stem, main, "vocab_size")
    special = [getattr(config, f"{name}_token_id", None) for name in ("pad", "eos", "bos")]
    several = [one for value in special for one in (value if isinstance(value, list) else [value])]
    return np.setdiff1d(np.arange(min(count, 50000)), [one for one in several if one is not None])


def _padding(config: Any, length: int) -> int:
    """Return how many tokens a mask hides: a window must reach what it shows."""
    window = getattr(config, "sliding_window", None)
    return min(length // 4, max(window - 1, 0)) if isinstance(window, int) else length // 4


def _pixels(config: Any, stem: str, main: str, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
    size = _find(config, "image_size")
    if isinstance(size, dict):
        size = (size.get("height"), size.get("width"))
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise _refusal(config, stem, main, "image_size")
    return _normal(rng, batch, _find(config, "num_channels") or 3, *sides)


def _features(config: Any, stem: str, main: str, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
    if isinstance(bins := _find(config, "num_mel_bins"), int):
        positions = _find(config, "max_source_positions")  # half the frames, after two convolutions
        return _normal(rng, batch, bins, 2 * positions if isinstance(positions, int) else length)
    for key in ("input_feat_per_channel", "feature_projection_input_dim"):
        if isinstance(width := _find(config, key), int):
            return _normal(rng, batch, length, width)
    raise _refusal(config, stem, main, "num_mel_bins")


def _sound(config: Any, stem: str, main: str, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
    if isinstance(bins := _find(config, "num_mel_bins"), int):
        return _normal(rng, batch, _find(config, "max_length") or length, bins)
    samples = length
    kernels, strides = (list(_find(config, key) or ()) for key in ("conv_kernel", "conv_stride"))
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return _normal(rng, batch, samples)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _unknown(config: Any, stem: str, main: str, *_: Any) -> np.ndarray:
    raise _refusal(config, stem, main, " or ".join(("input_ids", *_MAKERS)), "a class that first of all reads")


_MAKERS = {"pixel_values": _pixels, "input_features": _features, "input_values": _sound}


def _find(config: Any, key: str) -> Any:
    """Return a field of the config, or of that of a part."""
    for one in (config, *(getattr(config, name, None) for name in _WITHIN)):
        value = one.get(key) if isinstance(one, dict) else getattr(one, key, None)
        if value is not None:
            return value
    return None


def _refusal(config: Any, stem: str, main: str, wanted: str, of: str = "a config with") -> ArgumentError:
    return ArgumentError(
        f"It is not known what {stem} reads.", expected=f"{of} {wanted}",
        received=f"one of model_type {getattr(config, 'model_type', '')!r} that reads {main!r}",
        remedy="pass inputs=, arrays by argument name, or --inputs FILE.npz",
    )  # fmt: skip


def make_labels(config: Any, stem: str, inputs: Mapping[str, np.ndarray], seed: int = 0) -> Inputs:
    """Return labels for the loss of the class `stem`, by argument name; none of a class without a head.

    Of tokens that the attention mask hides, and of some others, they are -100: those do not count.
    """
    rng = np.random.default_rng([seed, 1])

    def drawn(below: int, *shape: int) -> np.ndarray:
        return np.asarray(rng.integers(0, below, shape or rows))

    first = next(iter(inputs.values()))
    rows, choices = first.shape[0], int(getattr(config, "num_labels", 2) or 2)
    decoder = getattr(config, "decoder", None)
    words = _find(decoder if hasattr(decoder, "vocab_size") else config, "vocab_size") or 2
    ids, mask = inputs.get("decoder_input_ids", inputs.get("input_ids")), inputs.get("attention_mask")

    def of_tokens(count: int) -> np.ndarray:
        assert ids is not None
        hidden = rng.random(ids.shape) < 0.2
        if mask is not None and mask.shape == ids.shape:
            hidden |= mask == 0
        return np.where(hidden, -100, rng.integers(0, count, ids.shape))

    if stem.endswith("QuestionAnswering"):
        places = (first if ids is None else ids).shape[1]
        return {name: drawn(places) for name in ("start_positions", "end_positions")}
    if stem.endswith("MultipleChoice"):
        return {"labels": drawn(first.shape[1])}
    if stem.endswith("NextSentencePrediction"):
        return {"labels": drawn(2)}
    if stem.endswith("Classification") and not stem.endswith("TokenClassification"):
        return {"labels": _of_rows(rng, rows, choices, getattr(config, "problem_type", None))}
    if ids is None:
        return {}
    if stem.endswith("TokenClassification"):
        return {"labels": of_tokens(choices)}
    if stem.endswith("BertForPreTraining"):
        return {"labels": of_tokens(words), "next_sentence_label": drawn(2)}
    if stem.endswith("ForPreTraining"):
        return {"labels": drawn(2, *ids.shape)}
    if stem.endswith("DoubleHeadsModel"):
        return {"labels": of_tokens(words), "mc_labels": drawn(first.shape[1])}
    reads_words = stem.endswith(("LM", "LMHeadModel", "ConditionalGeneration", "EncoderDecoderModel"))
    return {"labels": of_tokens(words)} if reads_words else {}


def _of_rows(rng: np.random.Generator, rows: int, choices: int, problem: str | None) -> np.ndarray:
    if choices == 1 or problem == "regression":
        shape = (rows,) if choices == 1 else (rows, choices)
        return rng.standard_normal(shape).astype(np.float32)
    if problem == "multi_label_classification":
        return rng.integers(0, 2, (rows, choices)).astype(np.float32)
    return rng.integers(0, choices, rows)


def read_inputs(file: Path) -> Inputs:
    """Return the arrays of an .npz by argument name; float64 as float32. Nothing is unpickled.

    Raises:
        ArgumentError: it is no .npz, or it holds none, or anything but numbers and truth values.
    """
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("no zip archive" if file.is_file() else "no file")
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ArgumentError(f"{file} does not hold inputs.", expected="an .npz of arrays by argument name, no pickles",
                            received=str(error)[:200], remedy="numpy.savez(file, input_ids=..., ...)",
                            ) from error  # fmt: skip
    if not found or (wrong := [name for name, array in found.items() if array.dtype.kind not in "iufb"]):
        raise ArgumentError(f"{file} does not hold inputs.", expected="arrays of numbers by argument name",
                            received=f"{', '.join(wrong)} of {found[wrong[0]].dtype}" if found else "none",
                            remedy="numpy.savez(file, input_ids=..., ...)")  # fmt: skip
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in found.items()}
