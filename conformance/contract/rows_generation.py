"""Rows of the contract about models that generate: methods, what says that a class has them, what is returned."""

from __future__ import annotations

import functools
import inspect
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from live_models import IDS
from probing import messages, refuses, shows
from small_models import SMALL, config_of, random_folder
from small_tokenizer import small_tokenizer
from triptych import (
    ArgumentError,
    BertConfig,
    GenerationConfig,
    GPT2Config,
    MissingMethodError,
    StoppingCriteriaList,
    StopStringCriteria,
    TextStreamer,
    TriptychError,
)
from triptych_conformance import BACKENDS, Backend, assert_close
from walk import row, state

PROMPTS = np.array([[3, 5, 9, 14], [8, 21, 4, 17]])
MODEL = "GPT2LMHeadModel"
OPEN = {"eos_token_id": None, "bos_token_id": 1, "pad_token_id": 0}


@functools.cache
def writer(backend: Backend, vocab_size: int = 31) -> Any:
    """Return a random GPT-2, the same in every framework; of 32 places, and with no token that ends a text."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_of("gpt2", n_positions=32, vocab_size=vocab_size, **OPEN)
        return backend.load(MODEL, random_folder(Path(folder), config, MODEL))


def given(backend: Backend, ids: Any) -> Any:
    return torch.tensor(ids) if backend.name == "pt" else np.asarray(ids)


def written(backend: Backend, ids: Any = PROMPTS, model: Any = None, **options: Any) -> np.ndarray:
    """Return texts [rows, length], of a search that runs as a loop of Python; of three new tokens, if nothing is
    said."""
    eager = {"trace": False} if backend.name == "flax" else {}
    if not options.keys() & {"max_new_tokens", "max_length", "generation_config"}:
        options["max_new_tokens"] = 3
    found = (model or writer(backend)).generate(given(backend, ids), **options, **eager)
    return np.asarray(found if hasattr(found, "shape") else found.sequences)


PT = next(backend for backend in BACKENDS if backend.name == "pt")


def log_probs(ids: np.ndarray, banned: int = -1) -> np.ndarray:
    """Return logarithms of probabilities after each token [R, L, V], of a model that never writes a certain one."""
    logits = PT.run(writer(PT), {"input_ids": ids})["logits"].astype(np.float64)
    logits = np.where(np.arange(31) == banned, -np.inf, logits)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def best_pair(banned: int = -1) -> np.ndarray:
    """Return the first prompt and the two likeliest tokens after it, of all pairs."""
    texts = np.concatenate([np.repeat(PROMPTS[:1], 31, 0), np.arange(31)[:, None]], 1)
    after = log_probs(texts, banned)
    both = after[0, -2][:, None] + after[:, -1]
    return np.array([*PROMPTS[0], *np.unravel_index(both.argmax(), both.shape)])


# -- the method, and the classes that have it -------------------------------------------------------------------------

ARGUMENTS = {
    "pt": "inputs generation_config logits_processor stopping_criteria prefix_allowed_tokens_fn synced_gpus "
    "assistant_model streamer negative_prompt_ids negative_prompt_attention_mask use_model_defaults custom_generate",
    "tf": "inputs generation_config logits_processor seed",
    "flax": "input_ids generation_config prng_key trace params logits_processor",
}


@row("5.10.1", pt="Y", note="and a seed, which draws the same in the three frameworks")
@row("6.114", tf="Y", note="by name, those of PyTorch too; jit_compile=True compiles the search")
@row("7.72", flax="Y", note="by name, those of PyTorch too")
@row("7.76", flax="Y", note="and beam sampling, which v4 had not; without a key or a seed, samples are always the same")
@row("11.33", pt="Y", tf="Y", flax="Y", note="the options of PyTorch in all three; custom_generate is refused")
def generate(backend: Backend, folder: Path) -> None:
    taken = inspect.signature(backend.cls(MODEL).generate).parameters
    positional = [name for name, one in taken.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert " ".join(positional[1:]) == ARGUMENTS[backend.name]
    model, ids = writer(backend), given(backend, PROMPTS)

    def texts(**options: Any) -> np.ndarray:
        found = model.generate(ids, max_new_tokens=3, **options)
        return np.asarray(found if hasattr(found, "shape") else found.sequences)

    # The least likely tokens, so that a processor of the call is seen too.
    found = texts(logits_processor=[_opposite])
    assert np.array_equal(log_probs(found)[:, 3:-1].argmin(-1), found[:, 4:]) and found.shape == (2, 7)
    seeded = [texts(do_sample=True, top_k=0, temperature=3.0, seed=seed) for seed in (5, 5, 6)]
    assert np.array_equal(*seeded[:2]) and not np.array_equal(*seeded[1:])


def _opposite(ids: Any, scores: Any, *length: Any) -> Any:
    return -scores


HAVE_IT = "of built-in classes by what they declare, of others by GenerationMixin or prepare_inputs_for_generation"


@row("5.4.71", note=HAVE_IT, pt="Y")
@row("6.60", note=HAVE_IT, tf="Y")
@row("7.37", note=HAVE_IT, flax="Y")
@row("11.31", note=HAVE_IT, pt="Y", tf="Y", flax="Y")
def can_generate(backend: Backend, folder: Path) -> None:
    trunk = backend.cls("GPT2Model")
    assert backend.cls(MODEL).can_generate() and not trunk.can_generate()

    class Saying(trunk):  # type: ignore[misc, valid-type]
        def prepare_inputs_for_generation(self, input_ids: Any, **kwargs: Any) -> Any:
            return {"input_ids": input_ids}

    assert Saying.can_generate()
    with pytest.raises(MissingMethodError, match="does not generate"):
        bare, held = ({"_do_init": False}, {"params": {}}) if backend.name == "flax" else ({}, {})
        backend.cls("BertModel")(BertConfig(**SMALL["bert"]), **bare).generate(given(backend, PROMPTS), **held)


@row("11.32", pt="Y", tf="Y", flax="Y", note="the base classes have its methods; a base of the name is one more")
def a_mixin(backend: Backend, folder: Path) -> None:
    import triptych

    name = f"{backend.cls('BertModel').class_prefix}GenerationMixin"
    mixin, trunk = getattr(triptych, name), backend.cls("PreTrainedModel")
    assert getattr(triptych.generation, name) is mixin
    assert trunk.generate is mixin.generate and not trunk.can_generate()


@row("9.56", pt="Y", note="every class has the methods; those that say how they are called generate")
def classes_of_repositories_generate(backend: Backend, folder: Path) -> None:
    writer(backend).save_pretrained(folder)
    (folder / "modeling_mine.py").write_text(
        "from triptych import GPT2Config, GPT2LMHeadModel, PreTrainedModel\n\n\n"
        "class Mine(PreTrainedModel):\n    config_class = GPT2Config\n    base_model_prefix = 'lm'\n\n"
        "    def __init__(self, config):\n        super().__init__(config)\n"
        "        self.lm = GPT2LMHeadModel(config)\n        self.post_init()\n\n"
        "    def forward(self, input_ids, **kwargs):\n        return self.lm(input_ids)\n\n"
        "    def prepare_inputs_for_generation(self, input_ids, **kwargs):\n        return {'input_ids': input_ids}\n"
    )
    text = (folder / "config.json").read_text()
    entry = '{"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}, '
    (folder / "config.json").write_text(entry + text.lstrip()[1:])
    model = backend.load("AutoModelForCausalLM", folder, trust_remote_code=True)
    assert type(model).__name__ == "Mine" and model.can_generate()
    assert np.array_equal(written(backend, model=model), written(backend))


# -- methods beside it ------------------------------------------------------------------------------------------------


@row("5.10.2", pt="Y", note="cache_position gives the number of new tokens, no more")
@row("6.115", tf="Y", note="with the default of PyTorch, where v4 had none")
def prepared_inputs(backend: Backend, folder: Path) -> None:
    model, ids = writer(backend), given(backend, PROMPTS)
    mask = given(backend, [[0, 1, 1, 1], [1, 1, 1, 1]])
    first = model.prepare_inputs_for_generation(ids, attention_mask=mask, use_cache=True)
    assert first["input_ids"].shape == (2, 4) and first["use_cache"] is True
    assert np.asarray(first["position_ids"]).tolist() == [[0, 0, 1, 2], [0, 1, 2, 3]]
    past = {} if backend.name == "pt" else {"past_key_values": model.init_cache(2, 8)}
    past = model(ids[:, :3], use_cache=True, **past).past_key_values
    then = model.prepare_inputs_for_generation(ids, past_key_values=past, attention_mask=mask)
    assert np.array_equal(then["input_ids"], PROMPTS[:, 3:]) and then["past_key_values"] is past
    assert np.asarray(then["position_ids"]).tolist() == [[2], [3]]


@row("7.73", flax="Y", note="with a default, where v4 had none")
@row("7.74", flax="Y", note="with a default, where v4 had none")
def inputs_of_flax(backend: Backend, folder: Path) -> None:
    model = writer(backend)
    first = model.prepare_inputs_for_generation(PROMPTS, 8, attention_mask=np.array([[0, 1, 1, 1], [1, 1, 1, 1]]))
    assert np.asarray(first["attention_mask"]).tolist() == [[0, *[1] * 7], [1] * 8]
    assert np.asarray(first["position_ids"]).tolist() == [[0, 0, 1, 2], [0, 1, 2, 3]]
    then = model.update_inputs_for_generation({"past_key_values": "filled"}, first)
    assert then["past_key_values"] == "filled" and np.asarray(then["position_ids"]).tolist() == [[3], [4]]


@row("5.10.3", pt="Y")
@row("6.116", tf="Y")
def scores_of_tokens(backend: Backend, folder: Path) -> None:
    model = writer(backend)
    found = model.generate(given(backend, PROMPTS), max_new_tokens=3, output_scores=True, return_dict_in_generate=True)
    texts = np.asarray(found.sequences)
    single = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
    expected = np.take_along_axis(log_probs(texts)[:, 3:-1], texts[:, 4:, None], -1)[..., 0]
    assert_close(single, expected.astype(np.float32))


@row("5.10.4", pt="Y")
def healing(backend: Backend, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=small_tokenizer(), bos_token="<s>", eos_token="</s>",
                                        pad_token="</s>", padding_side="left")  # fmt: skip
    ids = tokenizer(["the la"], return_tensors="pt").input_ids
    mended = writer(backend, len(tokenizer)).heal_tokens(ids, tokenizer)
    assert (ids[:, :-1] == mended[:, :-1]).all() and (ids[:, -1] != mended[:, -1]).all()
    assert tokenizer.decode(mended[0]).startswith("the la")


row("5.10.5", pt="R", note="code of a repository is not run to generate: import its function, call it with the model")(
    refuses("load_custom_generate", match="import the function")
)
for _number, _method in (("5.10.6", "init_continuous_batching"), ("5.10.7", "generate_batch")):
    row(_number, pt="R", note="requests do not join a batch that runs; generate takes prompts of one batch")(
        refuses(_method, match="prompts of one batch")
    )


@row("5.5.68", pt="R", note="the code is not run; import its function generate, and call it with the model")
def code_that_generates(backend: Backend, folder: Path) -> None:
    writer(backend).save_pretrained(folder)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text("raise SystemExit('run')")
    model = backend.load(MODEL, folder)
    with pytest.raises(ArgumentError, match="custom_generate=None"):
        model.generate(IDS, custom_generate=str(folder))
    assert np.array_equal(written(backend, model=model), written(backend))


# -- what authors override --------------------------------------------------------------------------------------------


@row("5.10.8", pt="Y")
@row("5.10.9", pt="Y")
@row("5.10.10", pt="Y", note="a class method")
@row("5.10.11", pt="Y", note="and a default, for every kind of cache here")
@row(
    "5.10.12", pt="Y", note="False of classes with prepare_inputs_for_generation of their own: they make caches of None"
)
def overridden_methods_are_called(backend: Backend, folder: Path) -> None:
    called: list[str] = []
    caches: list[Any] = []
    cls = backend.cls(MODEL)

    class Own(cls):  # type: ignore[misc, valid-type]
        def _prepare_model_inputs(self, inputs: Any, bos_token_id: Any, model_kwargs: Any) -> Any:
            assert bos_token_id == 1
            return super()._prepare_model_inputs(torch.as_tensor(inputs.pop()), bos_token_id, model_kwargs)

        def _update_model_kwargs_for_generation(self, outputs: Any, model_kwargs: Any, **kwargs: Any) -> Any:
            called.append("update")
            return super()._update_model_kwargs_for_generation(outputs, model_kwargs, **kwargs)

        @classmethod
        def _expand_inputs_for_generation(cls, expand_size: int = 1, **kwargs: Any) -> Any:
            called.append(f"expand {expand_size}")
            return super()._expand_inputs_for_generation(expand_size=expand_size, **kwargs)

        def _reorder_cache(self, past_key_values: Any, beam_idx: Any) -> Any:
            called.append("reorder")
            return super()._reorder_cache(past_key_values, beam_idx)

        def prepare_inputs_for_generation(self, input_ids: Any, **kwargs: Any) -> Any:
            caches.append(kwargs.get("past_key_values"))
            return super().prepare_inputs_for_generation(input_ids, **kwargs)

    class Cached(Own):
        @classmethod
        def _supports_default_dynamic_cache(cls) -> bool:
            return True

    expected = written(backend, num_beams=2, max_new_tokens=3)
    for kind in (Own, Cached):
        model = kind(writer(backend).config).eval()
        model.load_state_dict(writer(backend).state_dict())
        assert np.array_equal(model.generate([PROMPTS], num_beams=2, max_new_tokens=3), expected)
        assert called.count("update") == 3 and "expand 2" in called and "reorder" in called
        called.clear()
    assert cls._supports_default_dynamic_cache() and not Own._supports_default_dynamic_cache()
    assert caches[0] is None and caches[3] is not None


@shows("7.75 7.76 7.77")
def logits_of_beams(backend: Backend, folder: Path) -> None:
    cls = backend.cls(MODEL)

    class Own(cls):  # type: ignore[misc, valid-type]
        def _adapt_logits_for_beam_search(self, logits: Any) -> Any:
            return super()._adapt_logits_for_beam_search(logits).at[:, :, banned].set(-np.inf)

    banned = int(best_pair()[-1])
    model = Own(writer(backend).config, _do_init=False)
    found = model.generate(PROMPTS[:1], max_new_tokens=2, num_beams=31, params=writer(backend).params)
    assert np.array_equal(found.sequences[0], best_pair(banned)) and not np.array_equal(best_pair(), best_pair(banned))
    assert type(found).__name__ == "FlaxBeamSearchOutput" and found.scores.shape == (1,)


# -- ways of generating -----------------------------------------------------------------------------------------------


@row("5.10.13", pt="Y", note="without a seed, PyTorch's own generator draws, in the order of transformers")
@row("5.10.14", pt="Y")
@row("6.119", tf="Y", note="and group beams; assisted decoding, streamers and criteria in eager loops")
def ways(backend: Backend, folder: Path) -> None:
    greedy, best = written(backend, PROMPTS[:1], max_new_tokens=2), best_pair()
    assert np.array_equal(greedy[0, 4:], log_probs(greedy)[0, 3:-1].argmax(-1))
    assert np.array_equal(written(backend, PROMPTS[:1], max_new_tokens=2, num_beams=31)[0], best)
    assert np.array_equal(written(backend, PROMPTS[:1], max_new_tokens=2, do_sample=True, top_k=1), greedy)
    sampled = [
        written(backend, do_sample=True, top_k=0, temperature=3.0, num_beams=2, seed=seed) for seed in (1, 1, 2, 3)
    ]
    assert np.array_equal(*sampled[:2]) and len({text.tobytes() for text in sampled}) > 1
    if backend.name == "pt":
        drawn = [written(backend, do_sample=True, max_new_tokens=5) for _ in range(2) if torch.manual_seed(3)]
        assert np.array_equal(*drawn)
    if backend.name == "tf":
        contrastive = written(backend, penalty_alpha=0.6, top_k=4, max_new_tokens=4)
        assert contrastive.shape == (2, 8) and not np.array_equal(contrastive, written(backend, max_new_tokens=4))


@row("5.10.15", pt="Y", note="by a model of the same tokenizer, or by the prompt: assistant_early_exit and "
     "assistant_tokenizer are refused")  # fmt: skip
def assistants(backend: Backend, folder: Path) -> None:
    model, alone = writer(backend), written(backend, PROMPTS[:1], max_new_tokens=8)
    for helped in ({"assistant_model": model}, {"prompt_lookup_num_tokens": 2}):
        assert np.array_equal(written(backend, PROMPTS[:1], max_new_tokens=8, **helped), alone)
    for refused in ({"assistant_early_exit": 1}, {"assistant_model": model, "assistant_tokenizer": object()}):
        with pytest.raises(ArgumentError, match="assist"):
            written(backend, PROMPTS[:1], **refused)


@row("5.10.16", pt="R", note="contrastive search and group beams generate, without code of the Hub, groups as 4.48 "
     "did; DoLa and constrained beams are refused by name")  # fmt: skip
def searches_of_the_hub(backend: Backend, folder: Path) -> None:
    greedy = written(backend, max_new_tokens=4)
    assert np.array_equal(written(backend, penalty_alpha=1e-6, top_k=4, max_new_tokens=4), greedy)
    assert not np.array_equal(written(backend, penalty_alpha=0.9, top_k=4, max_new_tokens=4), greedy)
    groups = written(backend, num_beams=4, num_beam_groups=4, diversity_penalty=50.0, num_return_sequences=4)
    assert all(len(set(firsts)) == 4 for firsts in groups[:, 4].reshape(2, 4))
    for refused, match in (({"dola_layers": "low"}, "DoLa"), ({"num_beams": 2, "force_words_ids": [[7]]}, "words")):
        with pytest.raises(ArgumentError, match=match):
            written(backend, **refused)


# -- the config of a call ---------------------------------------------------------------------------------------------


@row(
    "5.10.17", pt="Y", note="a config of a call takes what it leaves open from a model saved by 4.50 or later, as 4.57"
)
def precedence(backend: Backend, folder: Path) -> None:
    model = backend.load(MODEL, _saved(backend, folder))
    model.generation_config.max_new_tokens = 2
    assert written(backend, model=model, generation_config=None).shape == (2, 6)
    passed = GenerationConfig(max_new_tokens=4)
    assert written(backend, model=model, generation_config=passed).shape == (2, 8)
    assert written(backend, model=model, generation_config=passed, max_new_tokens=5).shape == (2, 9)
    assert passed.max_new_tokens == 4 and model.generation_config.max_new_tokens == 2
    other = GenerationConfig(pad_token_id=0)
    assert written(backend, model=model, generation_config=other, use_model_defaults=True).shape == (2, 6)
    assert written(backend, model=model, generation_config=other, use_model_defaults=False).shape == (2, 24)
    with pytest.raises(TriptychError, match="max_new_toks"):
        written(backend, max_new_toks=2)


def _saved(backend: Backend, folder: Path) -> Path:
    writer(backend).save_pretrained(folder)
    return folder


@row(
    "5.10.18", pt="Y", note="the default of max_length is 20 new tokens in all three frameworks; errors are ValueErrors"
)
def lengths(backend: Backend, folder: Path) -> None:
    model = writer(backend)
    with messages() as said:
        assert model.generate(given(backend, PROMPTS)).shape == (2, 24)
        assert model.generate(given(backend, [[3] * 20])).shape == (1, 32)  # as many as the model has places
        assert written(backend, max_new_tokens=2, max_length=31).shape == (2, 6)
    assert "20 new tokens" in said[0] and "max_length=31" in said[-1]
    assert written(backend, max_length=6).shape == (2, 6)
    for refused in ({"max_length": 4}, {"max_length": 6, "min_length": 7}):
        with pytest.raises(ValueError, match=r"length|room"):
            written(backend, **refused)


@row("5.10.19", pt="Y", note="warned of for a single prompt too")
def padding(backend: Backend, folder: Path) -> None:
    texts = written(backend)
    with messages(20) as said:
        ended = written(backend, eos_token_id=int(texts[0, 4]), pad_token_id=None)
    assert (ended[0, 4:] == texts[0, 4]).all() and any("pad_token_id" in text for text in said)
    padded = np.concatenate([PROMPTS[:1] * 0, PROMPTS[:1]], 1)
    alone = written(backend, padded, attention_mask=given(backend, [[0] * 4 + [1] * 4]))
    assert np.array_equal(alone[0, 8:], texts[0, 4:])
    with messages() as said:
        written(backend, attention_mask=given(backend, [[1, 1, 1, 0], [1, 1, 1, 1]]))
    assert any("left" in text for text in said)


@row("5.10.20", pt="Y")
@row("6.121", tf="Y", note="of group beams, those of beams")
def outputs(backend: Backend, folder: Path) -> None:
    model, ids = writer(backend), given(backend, PROMPTS)
    flags = {"output_scores": True, "output_logits": True, "return_dict_in_generate": True, "max_new_tokens": 3}
    greedy, beams = model.generate(ids, **flags), model.generate(ids, num_beams=2, **flags)
    names = {"pt": ("GenerateDecoderOnlyOutput", "GenerateBeamDecoderOnlyOutput"),
             "tf": ("TFGreedySearchDecoderOnlyOutput", "TFBeamSearchDecoderOnlyOutput")}[backend.name]  # fmt: skip
    assert (type(greedy).__name__, type(beams).__name__) == names
    assert len(greedy.scores) == len(greedy.logits) == 3 and greedy.scores[0].shape == (2, 31)
    assert beams.sequences_scores.shape == (2,) and beams.beam_indices.shape == (2, 3)
    assert model.generate(ids, max_new_tokens=3).shape == (2, 7)


@row("7.77", flax="Y", note="padded to the greatest length; with scores, logits and states where they are asked for")
def outputs_of_flax(backend: Backend, folder: Path) -> None:
    end = int(log_probs(PROMPTS[:1])[0, -1].argmax())
    flags = {"output_scores": True, "output_logits": True, "return_dict_in_generate": True, "max_new_tokens": 3}
    found = writer(backend).generate(PROMPTS[:1], eos_token_id=end, pad_token_id=0, trace=False, **flags)
    assert type(found).__name__ == "FlaxGreedySearchOutput" and found.sequences[0, 4:].tolist() == [end, 0, 0]
    assert len(found.scores) == len(found.logits) == 1 and found.scores[0].shape == (1, 31)


@row("5.10.21", pt="Y", note="for every field; repetition_penalty does not count padding on the left, as in 5")
@row("6.120", tf="Y", note="every one of PyTorch; repetition_penalty does not count padding on the left")
def processors(backend: Backend, folder: Path) -> None:
    plain = written(backend)
    first = int(plain[0, 4])
    for options in ({"suppress_tokens": [first]}, {"bad_words_ids": [[first]]}, {"begin_suppress_tokens": [first]},
                    {"sequence_bias": [[[first], -99.0]]}):  # fmt: skip
        assert (written(backend, max_new_tokens=1, **options)[0, 4:] != first).all()
    assert (written(backend, forced_eos_token_id=7)[:, -1] == 7).all()
    assert written(backend, eos_token_id=first, pad_token_id=0, min_new_tokens=2)[0, 4] != first
    text = written(backend, PROMPTS[:1], no_repeat_ngram_size=1, max_new_tokens=9)[0]
    assert len(set(text.tolist())) == len(text)
    # What is in the prompt is made unlikely; the padding before it is not.
    padded = np.concatenate([PROMPTS[:1] * 0 + first, PROMPTS[:1]], 1)
    mask = given(backend, [[0] * 4 + [1] * 4])
    penalised = written(backend, padded, attention_mask=mask, repetition_penalty=9.0)
    assert np.array_equal(penalised[0, 8:], written(backend, PROMPTS[:1], repetition_penalty=9.0)[0, 4:])


@row("5.10.22", pt="Y")
def criteria(backend: Backend, folder: Path) -> None:
    texts, tokenizer = written(backend, PROMPTS[:1]), small_tokenizer()
    word = tokenizer.decode([int(texts[0, 5])], skip_special_tokens=False)
    assert written(backend, PROMPTS[:1], max_new_tokens=9, max_time=0.0).shape == (1, 5)
    assert written(backend, PROMPTS[:1], max_new_tokens=9, eos_token_id=[30, int(texts[0, 5])]).shape[1] <= 6
    assert written(backend, PROMPTS[:1], max_new_tokens=9, stop_strings=word, tokenizer=tokenizer).shape[1] <= 6
    own = StoppingCriteriaList([StopStringCriteria(tokenizer, "never there"), lambda ids, scores: ids.shape[1] >= 7])
    seen: list[int] = []

    class Seen(TextStreamer):
        def put(self, value: Any) -> None:
            seen.extend(np.asarray(value).ravel().tolist())

    assert (
        written(backend, PROMPTS[:1], max_new_tokens=9, stopping_criteria=own, streamer=Seen(tokenizer)).shape[1] == 7
    )
    assert seen == texts[0].tolist()


# -- of Keras alone ---------------------------------------------------------------------------------------------------


@shows("6.117 6.118")
def searches_by_name(backend: Backend, folder: Path) -> None:
    import tensorflow as tf

    model, ids, alike = writer(backend), tf.constant(PROMPTS), {"max_length": 6, "pad_token_id": 0}
    assert np.array_equal(model.greedy_search(ids, **alike), model.generate(ids, **alike))
    drawn = model.generate(ids, do_sample=True, top_k=0, seed=(1, 2), **alike)
    assert np.array_equal(model.sample(ids, seed=(1, 2), **alike), drawn)
    contrast = {"penalty_alpha": 0.6, "top_k": 4, **alike}
    assert np.array_equal(model.contrastive_search(ids, **contrast), model.generate(ids, **contrast))
    beams = tf.repeat(ids[:, None], 3, axis=1)
    assert np.array_equal(model.beam_search(beams, **alike), model.generate(ids, num_beams=3, **alike))
    assert model.seed_generator is model.seed_generator and model.seed_generator.make_seeds(2).shape == (2, 2)


state("6.117", "what the model's generation config says of scores is not heeded in them")


@row("6.122", note="a cache of a fixed size is made first, by init_cache, as generate does; without it, and "
     "for tuples, an error", tf="R")  # fmt: skip
def caches_in_keras(backend: Backend, folder: Path) -> None:
    model = backend.cls(MODEL)(GPT2Config(**SMALL["gpt2"]))
    ids = IDS.numpy()
    with pytest.raises(ArgumentError, match="init_cache"):
        model(ids, use_cache=True)
    with pytest.raises(ArgumentError, match="init_cache"):
        model(ids, past_key_values=[(np.zeros((2, 3, 1, 4), np.float32),) * 2] * 2)
    first = model(ids[:, :3], past_key_values=model.init_cache(2, 5), use_cache=True)
    then = model(ids[:, 3:], past_key_values=first.past_key_values).logits
    assert_close(then, np.asarray(model(ids).logits)[:, 3:])
