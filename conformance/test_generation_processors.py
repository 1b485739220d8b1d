"""Processors of scores: in three frameworks, eager and compiled, as transformers 4.48.3 recorded them."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import torch

import triptych
from places import GOLDEN
from processor_cases import CASES, INPUTS, LENGTHS, SYNTHID, TABLE, Case
from processor_configs import CONFIGS, PROMPT_LENGTH
from triptych import ArgumentError, GenerationConfig, MissingMethodError
from triptych.errors import ConfigError
from triptych.generation.drawing import Seeded
from triptych.generation.ordering import processors_for
from triptych.generation.processors import Processor, ProcessorList, refuse_eager_only
from triptych.generation.random import key_of
from triptych.names import BACKEND_MODULES, BACKENDS
from triptych_conformance import assert_close
from triptych_flax import ops as flax_ops
from triptych_pt import ops as pt_ops
from triptych_tf import ops as tf_ops

with np.load(GOLDEN / "processors_4_48/scores.npz") as recorded:
    RECORDED = dict(recorded)
OPS: dict[str, Any] = {"pt": pt_ops, "tf": tf_ops, "flax": flax_ops}
PAD = 3
"""How many columns the buffers of compiled loops have beside the tokens."""
PARALLEL = pytest.mark.parametrize("name", OPS)


def native(name: str, value: Any) -> Any:
    """Return a numpy array as a tensor of a framework, in the integers that it uses; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    if name == "pt":
        return torch.from_numpy(value)
    value = value.astype(np.int32) if value.dtype.kind == "i" else value
    return tf.constant(value) if name == "tf" else jnp.asarray(value)


def public(name: str, stem: str) -> Any:
    return getattr(triptych, BACKENDS[name][1] + stem)


def made(name: str, case: Case) -> Processor:
    arguments = {key: native(name, value) for key, value in case.arguments.items()}
    if name == "flax" and case.stem == "WhisperTimeStampLogitsProcessor":  # its arguments are others there
        return public(name, case.stem)(arguments["generate_config"], None, arguments["begin_index"] - 1)
    return public(name, case.stem)(**arguments)


def padded(ids: np.ndarray) -> np.ndarray:
    """Return ids with further columns of tokens that are there, and do not count."""
    return np.concatenate([ids, ids[:, :PAD]], axis=1)


def called(name: str, case: Case, inputs: dict[str, Any], length: Any, processor: Processor) -> Any:
    """Return what comes of a call as users make it; PyTorch gets the tokens alone, the others their buffer."""
    call = {key: native(name, value) for key, value in case.call.items()}
    ids, scores = inputs[case.ids], inputs[case.scores]
    return processor(ids[:, :length], scores, **call) if name == "pt" else processor(ids, scores, length, **call)


@functools.cache
def inputs_of(name: str) -> dict[str, Any]:
    return {key: native(name, padded(x) if x.dtype.kind == "i" else x) for key, x in INPUTS.items()}


COMPILED: dict[str, list[str]] = {"flax": [label for label, case in CASES.items() if not case.eager]}
COMPILED["tf"] = list({CASES[label].stem: label for label in COMPILED["flax"]}.values())
"""Cases that are compiled in each framework: of each processor one in TensorFlow, whose compiler is JAX's."""


def compiled(name: str) -> Callable[..., Any]:
    """Return a function of inputs and a length, compiled, that gives the scores of every case that is compiled."""
    processors = {label: made(name, CASES[label]) for label in COMPILED[name]}

    def run(inputs: dict[str, Any], length: Any) -> dict[str, Any]:
        return {label: called(name, CASES[label], inputs, length, one) for label, one in processors.items()}

    return jax.jit(run) if name == "flax" else tf.function(run, jit_compile=True)


@functools.cache
def scores_when_compiled(name: str) -> dict[str, np.ndarray]:
    run = compiled(name)
    number = (lambda n: jnp.int32(n)) if name == "flax" else (lambda n: tf.constant(n, tf.int32))
    found = [run(inputs_of(name), number(length)) for length in LENGTHS]
    return {label: np.stack([np.asarray(one[label]) for one in found]) for label in found[0]}


def assert_same_scores(found: Any, recorded: np.ndarray) -> None:
    """Assert that the same scores are infinite, or no numbers, and the others close."""
    found = np.asarray(found)
    finite = np.isfinite(recorded)
    np.testing.assert_array_equal(found[~finite], recorded[~finite])
    assert_close(np.where(finite, found, 0), np.where(finite, recorded, 0))


# In JAX each primitive of each shape is compiled when it is first called by itself: only what cannot be compiled whole.
@pytest.mark.parametrize(
    ("name", "label"), [(name, label) for name in OPS for label, case in CASES.items() if name != "flax" or case.eager]
)
def test_a_processor_does_what_it_did_in_transformers(name: str, label: str) -> None:
    processor = made(name, CASES[label])
    found = [np.asarray(called(name, CASES[label], inputs_of(name), length, processor)) for length in LENGTHS]
    assert_same_scores(np.stack(found), RECORDED[label])


@pytest.mark.parametrize(("name", "label"), [(name, label) for name, labels in COMPILED.items() for label in labels])
def test_it_does_so_where_the_length_is_traced(name: str, label: str) -> None:
    assert_same_scores(scores_when_compiled(name)[label], RECORDED[label])


def test_a_core_processor_masks_what_is_not_there_in_pytorch_too() -> None:
    for label in ("repetition", "no 2 twice", "biases", "whisper"):
        processor, inputs = made("pt", CASES[label]), inputs_of("pt")
        found = [processor.process(inputs[CASES[label].ids], inputs["plain"], torch.tensor(n)) for n in LENGTHS]
        assert_same_scores(np.stack(found), RECORDED[label])


@PARALLEL
def test_forced_tokens_come_where_they_shall(name: str) -> None:
    processor = public(name, "ForceTokensLogitsProcessor")([[1, 4], [2, None], [5, 15]])
    for length, token in ((1, 4), (2, None), (5, 15), (9, None)):
        found = np.asarray(called(name, Case(""), inputs_of(name), length, processor))
        expected = np.full_like(found, -np.inf)
        if token is None:
            expected = INPUTS["plain"]
        else:
            expected[:, token] = 0
        np.testing.assert_array_equal(found, expected)


# -- what remembers, or asks -------------------------------------------------------------------------------------


def in_steps(name: str, processor: Processor, most: int = max(LENGTHS)) -> np.ndarray:
    case = Case("", ids="few")
    steps = range(1, most + 1)
    return np.stack([np.asarray(called(name, case, inputs_of(name), length, processor)) for length in steps])


@PARALLEL
@pytest.mark.parametrize(("label", "skip"), [("synthid", False), ("synthid later", True)])
def test_synthid_marks_as_in_transformers(name: str, label: str, skip: bool) -> None:
    processor = public(name, "SynthIDTextWatermarkLogitsProcessor")(**SYNTHID, skip_first_ngram_calls=skip)
    assert_same_scores(in_steps(name, processor), RECORDED[label])
    few = native(name, INPUTS["few"])
    np.testing.assert_array_equal(processor.compute_g_values(few), RECORDED["synthid bits"])
    np.testing.assert_array_equal(processor.compute_context_repetition_mask(few), RECORDED["synthid fresh"])
    np.testing.assert_array_equal(processor.compute_eos_token_mask(few, 2), RECORDED["synthid before the end"])


@PARALLEL
def test_selfhash_marks_as_in_transformers(name: str) -> None:
    cls = public(name, "WatermarkLogitsProcessor")
    processor = cls(100, seeding_scheme="selfhash", context_width=3)
    scores = np.arange(400, dtype=np.float32).reshape(4, 100)[:, ::-1].copy()
    case = Case("", ids="few", scores="plain")
    inputs = {**inputs_of(name), "plain": native(name, scores)}
    found = np.asarray(called(name, case, inputs, max(LENGTHS), processor))
    assert_same_scores(found, RECORDED["selfhash"])
    assert (found != scores).any()


@PARALLEL
@pytest.mark.parametrize("use_cache", [True, False])
def test_guidance_asks_a_model_as_in_transformers(name: str, use_cache: bool) -> None:
    table, lengths = native(name, TABLE), []

    def model(input_ids: Any, attention_mask: Any, **kwargs: Any) -> Any:
        lengths.append((input_ids.shape[1], attention_mask.shape[1]))
        logits = tf.gather(table, input_ids) if name == "tf" else table[input_ids]
        return SimpleNamespace(logits=logits, past_key_values=None)

    processor = public(name, "UnbatchedClassifierFreeGuidanceLogitsProcessor")(1.5, model, use_cache=use_cache)
    assert_same_scores(in_steps(name, processor, 4), RECORDED[f"guided by a model {use_cache}"][:4])
    grows = not (use_cache and name == "pt")
    assert lengths == [(n if grows else 1, n) for n in range(1, 5)]


def test_speech_is_looked_for_where_the_text_begins() -> None:
    ids, scores = inputs_of("pt")["many"], inputs_of("pt")["plain"]
    processor = triptych.WhisperNoSpeechDetection(4, 1)
    assert processor(ids[:, :2], scores) is scores and processor.no_speech_prob == [0.0]
    assert processor(ids[:, :1], scores) is scores
    assert_close(processor.no_speech_prob, torch.softmax(scores, -1)[:, 4])


def test_speech_is_looked_for_by_a_model_after_forced_tokens() -> None:
    class Model:
        def prepare_inputs_for_generation(self, **inputs: Any) -> dict[str, Any]:
            return {"prepared": True}

        def __call__(self, prepared: bool, input_features: Any) -> Any:
            return SimpleNamespace(logits=torch.stack([input_features, -input_features], 1))

    ids, scores = inputs_of("pt")["many"], inputs_of("pt")["plain"]
    processor = triptych.WhisperNoSpeechDetection(4, 2, scores_is_logprobs=True)
    with pytest.raises(ArgumentError, match="set_model"):
        processor(ids[:, :2], scores)
    processor.set_model(Model())
    processor.set_inputs({"inputs": scores})
    processor.set_begin_index(3)
    processor(ids[:, :3], scores)
    assert_close(processor.no_speech_prob, torch.softmax(-scores, -1)[:, 4])


# -- which, in which order ---------------------------------------------------------------------------------------


def kind_of(processor: Processor) -> str:
    """Return the name that a processor of core has in PyTorch."""
    names = BACKEND_MODULES["processors"]
    return next((n for n in names if type(processor) in getattr(triptych, n).__bases__), type(processor).__name__)


@PARALLEL
@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_a_config_gets_the_processors_of_transformers_in_their_order(name: str, number: int) -> None:
    parameters = CONFIGS[number]
    processors, warpers = processors_for(
        OPS[name],
        GenerationConfig(**parameters),
        prompt_length=PROMPT_LENGTH,
        eos_token_ids=parameters.get("eos_token_id"),
        vocab_size=100,
        encoder_ids=native(name, np.ones((2, 3), np.int64)),
        prefix_allowed_tokens_fn=lambda row, text: [0],
        custom=[lambda ids, scores, *length: scores],
        unconditional=lambda ids, length: ids,
    )
    recorded = json.loads((GOLDEN / "processors_4_48/order.json").read_text())["orders"][number]
    found = [*processors, *warpers]
    users = {"SimpleNamespace": "Custom"}
    assert [kind_of(one) for one in found] == [users.get(one["name"], one["name"]) for one in recorded]
    for ours, theirs in zip(found, recorded, strict=True):
        assert {name: getattr(ours, name) for name in theirs if name != "name"} | {"name": theirs["name"]} == theirs
    assert kind_of(processors[-1]) == "Custom"
    assert all(kind_of(one) != "Custom" for one in warpers)


def test_forced_decoder_ids_come_after_what_is_suppressed_at_the_begin() -> None:
    config = GenerationConfig(forced_decoder_ids=[[1, 4], [2, 6]], begin_suppress_tokens=[1])
    (first, second), _ = processors_for(pt_ops, config, prompt_length=1)
    assert kind_of(first) == "SuppressTokensAtBeginLogitsProcessor" and first.begin_index == 3
    assert kind_of(second) == "ForceTokensLogitsProcessor" and second.force_token_map == {1: 4, 2: 6}


def test_a_config_that_needs_what_is_not_there_is_refused() -> None:
    cases = [({"guidance_scale": 2.0}, "unconditional"), ({"exponential_decay_length_penalty": (3, 1.1)}, "eos_token"),
             ({"watermarking_config": {}}, "vocab_size")]  # fmt: skip
    for parameters, text in cases:
        with pytest.raises(ConfigError, match=text):
            processors_for(pt_ops, GenerationConfig(**parameters), prompt_length=1)
    twice = [triptych.RepetitionPenaltyLogitsProcessor(1.5)]
    with pytest.raises(ArgumentError, match="two processors of one kind"):
        processors_for(pt_ops, GenerationConfig(repetition_penalty=1.2), prompt_length=1, custom=twice)
    without, _ = processors_for(pt_ops, GenerationConfig(encoder_repetition_penalty=1.2), prompt_length=1)
    assert without == []


def test_what_runs_python_is_refused_in_compiled_loops() -> None:
    for label, case in CASES.items():
        if case.eager:
            with pytest.raises(ArgumentError, match=f"{case.stem}.*trace=False"):
                refuse_eager_only([made("flax", CASES[label])])
    fn = {"prefix_allowed_tokens_fn": lambda row, text: [0]}
    custom = [made("tf", CASES["watermark"])]
    processors, _ = processors_for(tf_ops, GenerationConfig(), prompt_length=1, custom=custom, **fn)
    with pytest.raises(ArgumentError, match="PrefixConstrained, TFWatermarkLogitsProcessor"):
        refuse_eager_only(processors)
    refuse_eager_only([made("tf", case) for case in CASES.values() if not case.eager])


# -- classes and lists, as users have them -----------------------------------------------------------------------


def test_every_name_of_transformers_is_there_and_where_it_was() -> None:
    import transformers.generation.logits_process as theirs

    from triptych.generation import TFLogitsProcessorList as found
    from triptych.generation import flax_logits_process, logits_process, tf_logits_process

    assert found is triptych.TFLogitsProcessorList
    modern = {"TopHLogitsWarper", "SynthIDTextWatermarkState", "LogitsProcessor"}  # of version 5, or of its own inside
    names = {
        name for name, cls in inspect.getmembers(theirs, inspect.isclass)
        if cls.__module__ == theirs.__name__ and not name.startswith("Dia")
    }  # fmt: skip
    assert names - modern <= set(BACKEND_MODULES["processors"])
    for backend, module in (("pt", logits_process), ("tf", tf_logits_process), ("flax", flax_logits_process)):
        for stem in BACKEND_MODULES["processors"]:
            prefixed = BACKENDS[backend][1] + stem
            cls = getattr(module, prefixed)
            assert cls is getattr(triptych, prefixed) and cls.__doc__
    shown = inspect.signature(triptych.TFTopKLogitsWarper).parameters
    assert list(shown) == ["top_k", "filter_value", "min_tokens_to_keep"]


@PARALLEL
def test_processors_copy_and_pickle(name: str) -> None:
    processor = public(name, "TopKLogitsWarper")(3)
    for other in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):  # its own bytes, made here
        assert type(other) is type(processor) and other.top_k == 3
        found = called(name, Case(""), inputs_of(name), 2, other)
        np.testing.assert_array_equal(found, called(name, Case(""), inputs_of(name), 2, processor))


@PARALLEL
def test_users_write_processors_of_their_own(name: str) -> None:
    base = public(name, "LogitsProcessor")
    with pytest.raises(MissingMethodError, match="`__call__`"):
        called(name, Case(""), inputs_of(name), 2, base())

    class Raises(base):  # type: ignore[valid-type, misc]
        def __init__(self, by: float) -> None:  # and calls no other constructor
            self.by = by

        def __call__(self, input_ids: Any, scores: Any, *cur_len: Any) -> Any:
            return scores + self.by

    class Needs(base):  # type: ignore[valid-type, misc]
        if name == "pt":

            def __call__(self, input_ids: Any, scores: Any, factor: float) -> Any:
                return scores * factor
        else:

            def __call__(self, input_ids: Any, scores: Any, cur_len: Any, factor: float) -> Any:
                return scores * factor

    class Cooler(public(name, "TemperatureLogitsWarper")):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(2.0)

    several = public(name, "LogitsProcessorList")([Raises(1.0), Cooler()])
    case = Case("")
    assert_close(called(name, case, inputs_of(name), 2, several), (INPUTS["plain"] + 1) / 2)
    several.append(Needs())
    found = called(name, Case("", call={"factor": 3.0}), inputs_of(name), 2, several)
    assert_close(found, (INPUTS["plain"] + 1) / 2 * 3)
    with pytest.raises(ArgumentError, match="factor"):
        called(name, case, inputs_of(name), 2, several)
    processors, _ = processors_for(OPS[name], GenerationConfig(), prompt_length=1, custom=several)
    found = processors(inputs_of(name)["few"], inputs_of(name)["plain"], 2, factor=3.0)
    assert_close(found, (INPUTS["plain"] + 1) / 2 * 3)


@PARALLEL
def test_lists_give_groups_what_they_need(name: str) -> None:
    diverse = made(name, CASES["diverse"])
    call = {key: native(name, value) for key, value in CASES["diverse"].call.items()}
    ids, scores = inputs_of(name)["many"], inputs_of(name)["plain"]
    for processors in (ProcessorList([diverse]), public(name, "LogitsProcessorList")([diverse])):
        of_core = isinstance(processors, ProcessorList) or name != "pt"
        found = processors(ids, scores, 2, **call) if of_core else processors(ids, scores, **call)
        assert_same_scores(found, RECORDED["diverse"][0])
    with pytest.raises(ArgumentError, match="current_tokens, beam_group_idx"):
        ProcessorList([diverse])(ids, scores, 2)


BAD: list[tuple[str, tuple[Any, ...], str]] = [
    ("TemperatureLogitsWarper", (0.0,), "do_sample=False"),
    ("TemperatureLogitsWarper", (-1.0,), "above 0"),
    ("TemperatureLogitsWarper", ("hot",), "'hot'"),
    ("TemperatureLogitsWarper", (float("nan"),), "above 0"),
    ("TopKLogitsWarper", (0,), "at least 1"),
    ("TopKLogitsWarper", (2.5,), "integer"),
    ("TopKLogitsWarper", (3, -1.0, 0), "min_tokens_to_keep"),
    ("TopPLogitsWarper", (1.1,), "from 0 to 1"),
    ("TopPLogitsWarper", (0.9, -1.0, 0), "min_tokens_to_keep"),
    ("MinPLogitsWarper", (-0.1,), "from 0 to 1"),
    ("TypicalLogitsWarper", (1.0,), "between 0 and 1"),
    ("EpsilonLogitsWarper", (0.0,), "between 0 and 1"),
    ("EtaLogitsWarper", (1.0,), "between 0 and 1"),
    ("RepetitionPenaltyLogitsProcessor", (0,), "above 0"),
    ("EncoderRepetitionPenaltyLogitsProcessor", (-1.0, None), "above 0"),
    ("NoRepeatNGramLogitsProcessor", (0,), "ngram_size"),
    ("EncoderNoRepeatNGramLogitsProcessor", (-1, None), "ngram_size"),
    ("SequenceBiasLogitsProcessor", ({},), "not empty"),
    ("SequenceBiasLogitsProcessor", ({(): 1.0},), "tokens"),
    ("SequenceBiasLogitsProcessor", ({(-1,): 1.0},), "tokens"),
    ("SequenceBiasLogitsProcessor", ({(1,): "much"},), "numbers"),
    ("NoBadWordsLogitsProcessor", ([],), "list of lists"),
    ("NoBadWordsLogitsProcessor", ([3],), "list of lists"),
    ("NoBadWordsLogitsProcessor", ([[-3]],), "list of lists"),
    ("NoBadWordsLogitsProcessor", ([[3]], 3), "beside the end"),
    ("MinLengthLogitsProcessor", (-1, 3), "min_length"),
    ("MinLengthLogitsProcessor", (3, -1), "eos_token_id"),
    ("MinNewTokensLengthLogitsProcessor", (3, -1, 3), "min_new_tokens"),
    ("PrefixConstrainedLogitsProcessor", (None, 1), "a function"),
    ("HammingDiversityLogitsProcessor", (0.0, 4, 2), "diversity_penalty"),
    ("HammingDiversityLogitsProcessor", (0.5, 1, 2), "num_beams"),
    ("HammingDiversityLogitsProcessor", (0.5, 4, 1), "num_beam_groups"),
    ("HammingDiversityLogitsProcessor", (0.5, 2, 4), "at most 2"),
    ("ForcedBOSTokenLogitsProcessor", (-1,), "bos_token_id"),
    ("ForcedEOSTokenLogitsProcessor", (3, [1, -1]), "eos_token_id"),
    ("ForceTokensLogitsProcessor", ([[1, -4]],), "force_token_map"),
    ("ExponentialDecayLengthPenalty", ((3,), 1, 0), "a pair"),
    ("ClassifierFreeGuidanceLogitsProcessor", (1.0,), "above 1"),
    ("AlternatingCodebooksLogitsProcessor", (-1, 3, 3), "input_start_len"),
    ("BarkEosPrioritizerLogitsProcessor", (1, 0.0), "min_eos_p"),
    ("WatermarkLogitsProcessor", (10, None, 1.0), "greenlist_ratio"),
    ("WatermarkLogitsProcessor", (10, None, 0.5, 2.0, 7, "righthash"), "righthash"),
    ("SynthIDTextWatermarkLogitsProcessor", (3, [], 8, 0, 4), "keys"),
]


@PARALLEL
@pytest.mark.parametrize(("stem", "arguments", "text"), BAD)
def test_an_impossible_argument_is_refused(name: str, stem: str, arguments: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        public(name, stem)(*arguments)


@PARALLEL
def test_an_impossible_token_is_refused_in_the_call(name: str) -> None:
    for stem, arguments in (("SequenceBiasLogitsProcessor", ({(1, 99): 1.0},)),
                            ("ForcedBOSTokenLogitsProcessor", (99,)),
                            ("PrefixConstrainedLogitsProcessor", (lambda row, text: [], 1)),
                            ("PrefixConstrainedLogitsProcessor", (lambda row, text: [99], 1)),
                            ("ClassifierFreeGuidanceLogitsProcessor", (2.0,))):  # fmt: skip
        with pytest.raises(ArgumentError, match="Expected"):
            called(name, Case(""), inputs_of(name), 1, public(name, stem)(*arguments))


# -- what is drawn -----------------------------------------------------------------------------------------------

WARPERS = ["temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"]
DRAWS = 20_000


def drawn(name: str, scores: np.ndarray) -> np.ndarray:
    """Return as many draws as `DRAWS` of a token by the scores [vocabulary] of one text."""
    ops, rows = OPS[name], np.broadcast_to(scores, (DRAWS, len(scores))).copy()
    return np.asarray(Seeded(ops, key_of(ops, 7)).one(native(name, rows), 1))


@PARALLEL
@pytest.mark.parametrize("label", WARPERS)
def test_what_is_drawn_is_distributed_as_the_warper_says(name: str, label: str) -> None:
    if name == "flax":
        warped = scores_when_compiled(name)[label][0]
    else:
        warped = np.asarray(called(name, CASES[label], inputs_of(name), 1, made(name, CASES[label])))
    for row, theirs in zip(warped, RECORDED[label][0], strict=True):
        expected = np.exp(theirs.astype(np.float64) - theirs.max())
        expected = expected / expected.sum() * DRAWS
        found = np.bincount(drawn(name, row), minlength=len(row))
        assert not found[expected == 0].any() and found.sum() == DRAWS
        often = expected >= 5  # the others are one cell, as the test of chi-square wants it
        cells = [(found[often], expected[often]), (found[~often].sum()[None], expected[~often].sum()[None])]
        found, expected = (np.concatenate(x) for x in zip(*cells, strict=True))
        if often.sum() > 1:
            assert scipy.stats.chisquare(found[expected > 0], expected[expected > 0]).pvalue > 1e-4
