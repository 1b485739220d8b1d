"""Assisted decoding writes what the model writes alone, and calls it less often."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import triptych_pt
from generating import sequences
from small_models import config_of, random_folder
from triptych import ArgumentError, ConfigError, DynamicCache, GenerationConfig
from triptych.generation.assisted import assisted
from triptych.generation.drafting import Draft, PromptLookup
from triptych.generation.search import Search, python_loop
from triptych.generation.steps import Steps
from triptych_conformance import Backend, assert_close
from triptych_pt import ops

STEMS = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "t5": "T5ForConditionalGeneration"}
LONGER: dict[str, dict[str, Any]] = {
    "gpt2": {"n_positions": 64}, "llama": {"max_position_embeddings": 64}, "t5": {"num_decoder_layers": 2}
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    made: dict[str, Path] = {}

    def folder(kind: str, role: str) -> Path:
        name = f"{kind}-{role}"
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            random_folder(made[name], config_of(kind, STEMS[kind], **LONGER[kind]), STEMS[kind], seed=len(role))
        return made[name]

    return folder


@pytest.fixture(scope="module")
def models(folders: Any) -> Callable[[str], tuple[Any, Any, Any]]:
    """A function that returns a model of a family, one that mostly agrees with it, and one that knows nothing of it."""
    made: dict[str, tuple[Any, Any, Any]] = {}

    def of(kind: str) -> tuple[Any, Any, Any]:
        if kind not in made:
            cls = getattr(triptych_pt, STEMS[kind])
            target, stranger = (cls.from_pretrained(folders(kind, role)) for role in ("target", "stranger"))
            friend, noise = copy.deepcopy(target), torch.Generator().manual_seed(0)
            with torch.no_grad():
                for weight in friend.parameters():
                    weight += 0.02 * torch.randn(weight.shape, generator=noise)
            made[kind] = target, friend, stranger
        return made[kind]

    return of


def prompt(seed: int, length: int = 6) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(3, 12, (1, length)))


def calls_of(model: Any, run: Callable[[], Any]) -> tuple[Any, int]:
    """Return what `run` returns, and how often it calls the model."""
    seen: list[None] = []
    hook = model.register_forward_hook(lambda *_: seen.append(None))
    try:
        return run(), len(seen)
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", STEMS)
def test_greedy_search_writes_the_same(kind: str, models: Any) -> None:
    target, friend, stranger = models(kind)
    fewer = 0
    for seed in range(50):
        ids, more = prompt(seed), {"max_new_tokens": 6, "num_assistant_tokens": 1 + seed % 4}
        alone = target.generate(ids, **more)
        draft = stranger if seed % 5 == 0 else friend
        helped, calls = calls_of(target, lambda: target.generate(ids, assistant_model=draft, **more))  # noqa: B023
        assert torch.equal(helped, alone), seed
        fewer += calls < helped.shape[1] - (ids.shape[1] if kind != "t5" else 1)
        if seed % 3 == 0:
            assert torch.equal(target.generate(ids, prompt_lookup_num_tokens=3, **more), alone), seed
    assert fewer > 10


@pytest.mark.parametrize("kind", STEMS)
def test_transformers_writes_the_same(kind: str, models: Any, folders: Any) -> None:
    import transformers

    target, friend, stranger = models(kind)
    theirs, draft = (getattr(transformers, STEMS[kind]).from_pretrained(folders(kind, role)).eval()
                     for role in ("target", "stranger"))  # fmt: skip
    for seed in (0, 1):
        ids, more = prompt(seed), {"max_new_tokens": 8, "do_sample": False}
        given = {"attention_mask": torch.ones_like(ids)}
        expected = theirs.generate(ids, assistant_model=draft, **given, **more)
        assert torch.equal(target.generate(ids, assistant_model=stranger, **more), expected)
        expected = theirs.generate(ids, prompt_lookup_num_tokens=3, **given, **more)
        assert torch.equal(target.generate(ids, prompt_lookup_num_tokens=3, **more), expected)


def test_by_one_seed_an_assistant_changes_no_text(models: Any) -> None:
    target, friend, stranger = models("gpt2")
    for seed in range(6):
        ids = prompt(seed)
        more: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "seed": seed, "temperature": 0.8, "top_k": 12}
        alone = target.generate(ids, **more)
        for draft in (friend, stranger):
            assert torch.equal(target.generate(ids, assistant_model=draft, **more), alone)
        assert torch.equal(target.generate(ids, prompt_lookup_num_tokens=2, **more), alone)


def test_a_model_that_helps_itself_is_called_once_for_many_tokens(models: Any) -> None:
    target = models("gpt2")[0]
    twin, ids = copy.deepcopy(target), prompt(1)
    more = {"max_new_tokens": 21, "eos_token_id": None, "assistant_confidence_threshold": 0.0}
    run = lambda: target.generate(ids, assistant_model=twin, num_assistant_tokens=4, **more)  # noqa: E731
    found, calls = calls_of(target, run)
    assert found.shape[1] == ids.shape[1] + 21
    assert calls == 5  # the prompt, then five tokens each time
    _, of_twin = calls_of(twin, run)
    assert of_twin == 1 + 4 * 4  # neither reads a token twice
    _, calls = calls_of(
        target, lambda: target.generate(ids, assistant_model=twin, num_assistant_tokens=4, do_sample=True, **more)
    )
    assert calls == 5  # equal probabilities: nothing is rejected


def test_what_a_call_hands_out_is_the_same(models: Any) -> None:
    for kind in STEMS:
        target, friend, _ = models(kind)
        ids, streamed = prompt(3), {True: [], False: []}  # type: ignore[var-annotated]
        found = {}
        for helped in (True, False):
            found[helped] = target.generate(
                ids, max_new_tokens=7, return_dict_in_generate=True, output_scores=True, output_logits=True,
                output_attentions=True, output_hidden_states=True, streamer=streamed[helped].append,
                repetition_penalty=1.3, stopping_criteria=[lambda ids, scores: ids.shape[1] >= 11],
                **({"assistant_model": friend} if helped else {}),
            )  # fmt: skip
        one, other = found[True], found[False]
        assert torch.equal(one.sequences, other.sequences)
        assert [x.tolist() for x in streamed[True]] == [x.tolist() for x in streamed[False]]
        assert set(one) == set(other)
        for name in set(one) - {"sequences", "past_key_values"}:
            for mine, expected in zip(_arrays(one[name]), _arrays(other[name]), strict=True):
                assert_close(mine.numpy(), expected.numpy(), what=name)
        assert one.past_key_values.get_seq_length() == other.past_key_values.get_seq_length()


def _arrays(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [one for part in value for one in _arrays(part)]


def test_padding_own_caches_and_no_cache(models: Any) -> None:
    target, friend, _ = models("llama")
    ids = prompt(5)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1]])
    for more in ({"attention_mask": mask}, {"use_cache": False}, {"bad_words_ids": [[5], [6]]}):
        alone = target.generate(ids, max_new_tokens=8, **more)
        assert torch.equal(target.generate(ids, max_new_tokens=8, assistant_model=friend, **more), alone)
    alone, cache = target.generate(ids, max_new_tokens=8), DynamicCache()
    helped = target.generate(ids, max_new_tokens=8, assistant_model=friend, past_key_values=cache)
    assert torch.equal(helped, alone)
    assert cache.get_seq_length() == helped.shape[1] - 1


def test_an_encoder_is_read_by_both(models: Any) -> None:
    target, friend, _ = models("t5")
    ids, mask = prompt(5), torch.tensor([[1, 1, 1, 1, 0, 0]])
    alone = target.generate(ids, attention_mask=mask, max_new_tokens=8)
    assert torch.equal(target.generate(ids, attention_mask=mask, max_new_tokens=8, assistant_model=friend), alone)
    read = target.get_encoder()(inputs_embeds=target.shared(ids), attention_mask=mask)
    given = {"encoder_outputs": read, "attention_mask": mask, "max_new_tokens": 8}
    assert torch.equal(target.generate(**given, assistant_model=friend), alone)
    wider = {"encoder_outputs": (torch.zeros((1, 6, 13)),), "max_new_tokens": 8}
    with pytest.raises(ArgumentError, match="nothing to read"):
        target.generate(**wider, assistant_model=friend)


def test_a_draft_with_few_positions_helps_as_far_as_it_can(models: Any, tmp_path: Path) -> None:
    target = models("gpt2")[0]
    short = triptych_pt.GPT2LMHeadModel.from_pretrained(
        random_folder(tmp_path, config_of("gpt2", STEMS["gpt2"], n_positions=9), STEMS["gpt2"])
    )
    ids = prompt(2)
    alone = target.generate(ids, max_new_tokens=12, eos_token_id=None)
    assert torch.equal(target.generate(ids, max_new_tokens=12, eos_token_id=None, assistant_model=short), alone)


def test_schedules(models: Any) -> None:
    target = models("gpt2")[0]
    twin = copy.deepcopy(target)
    more: dict[str, Any] = {"max_new_tokens": 20, "eos_token_id": None, "assistant_confidence_threshold": 0.0}
    for schedule, kept in (("constant", 2), ("heuristic_transient", 2), ("heuristic", 2 + 2 + 2 + 2 - 1)):
        twin.generation_config.num_assistant_tokens = 2
        target.generate(prompt(0), assistant_model=twin, num_assistant_tokens_schedule=schedule, **more)
        assert twin.generation_config.num_assistant_tokens == kept, schedule


class Table(Steps):
    """Calls of a model for which the last token alone says what follows: logits [V, V]."""

    def __init__(self, logits: torch.Tensor) -> None:
        own = SimpleNamespace(_ops=ops, generation_config=GenerationConfig(), _positions=lambda: None)
        super().__init__(own, lambda: None, {}, 1, {}, 1, 0)
        self.logits, self.calls, self.outputs = logits, 0, {}

    def first(self, ids: Any, length: Any) -> tuple[Any, Any]:
        self.calls += 1
        return self.logits[ids[:, length - 1]], ()

    def several(self, held: Any, ids: Any, length: int, new: int) -> tuple[Any, Any]:
        self.calls += 1
        return self.logits[ids[:, length - new : length]], ()

    def shortened(self, held: Any, length: int) -> Any:
        return held


def test_sampling_has_the_distribution_of_the_model() -> None:
    rng, words, new, texts = torch.Generator().manual_seed(0), 5, 5, 1200
    logits, others = (torch.randn((words, words), generator=rng) for _ in range(2))
    native = triptych_pt.generation._Native(ops, None)
    config = GenerationConfig(num_assistant_tokens=2, assistant_confidence_threshold=0.0)
    steps, counts = Table(logits), np.zeros((words, words))
    torch.manual_seed(1)
    for _ in range(texts):
        search = Search(ops, steps, lambda ids, scores, length: scores, 1 + new, python_loop, native.one)
        draft = Draft(search, search.process, Table(others), config, 1, keeps_chances=True)
        ids, length = assisted(search, draft, torch.zeros((1, 1 + new), dtype=torch.int64), 1, varies=True)
        assert length == 1 + new
        np.add.at(counts, (ids[0, :-1], ids[0, 1:]), 1)
    assert steps.calls < 0.9 * texts * new
    expected = torch.softmax(logits, -1).numpy() * counts.sum(1, keepdims=True)
    assert expected.min() > 5
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < 45.3  # 20 degrees of freedom: more by chance in 0.1 % of all cases


def test_prompt_lookup_finds_the_longest_run() -> None:
    def looked_up(text: list[int], count: int, ngram: int | None = None, most: int = 9) -> list[int]:
        return PromptLookup(count, ngram, (1,)).propose(torch.tensor([[*text, 0, 0]]), len(text), most).tokens

    assert looked_up([5, 6, 7, 8, 9, 4, 6, 3, 5, 6], 3) == [7, 8, 9]  # "5 6" comes before "6"
    assert looked_up([4, 6, 3, 5, 6, 7, 5, 6], 3, ngram=1) == [3, 5, 6]  # "6" for the first time
    assert looked_up([5, 6, 7, 1, 9, 5, 6], 4) == [7]  # what ends a text is left to the model
    assert looked_up([5, 6, 7, 8, 5, 6], 4, most=1) == [7]
    assert looked_up([5, 6, 7], 4) == looked_up([5], 4) == []


def test_in_every_framework(backend: Backend, folders: Any) -> None:
    target = backend.load(STEMS["gpt2"], folders("gpt2", "target"))
    ids = np.array([[5, 5]])  # as long as what is verified: JAX compiles for each length
    more: dict[str, Any] = {"max_new_tokens": 4, "eos_token_id": None, "num_assistant_tokens": 1}
    alone = sequences(backend, target, ids, compiled=False, **more)
    for helper in ({"assistant_model": target}, {"prompt_lookup_num_tokens": 1}):
        assert np.array_equal(sequences(backend, target, ids, **helper, **more, compiled=False), alone)


class OfLastToken(triptych_pt.GPT2LMHeadModel):  # type: ignore[misc]
    """A class which passes on the last token, however many are new."""

    def prepare_inputs_for_generation(self, input_ids: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        ids = input_ids if past_key_values is None else input_ids[:, -1:]
        return {"input_ids": ids, "past_key_values": past_key_values}


def test_refusals(models: Any, folders: Any, tmp_path: Path) -> None:
    target, friend, _ = models("gpt2")
    ids = prompt(0)
    two = torch.cat([ids, ids])
    more_words = config_of("gpt2", STEMS["gpt2"], vocab_size=33)
    other = triptych_pt.GPT2LMHeadModel.from_pretrained(random_folder(tmp_path, more_words, STEMS["gpt2"]))
    for what, given, options in (
        ("2 texts", two, {"assistant_model": friend}),
        ("2 texts", two, {"prompt_lookup_num_tokens": 2}),
        ("2 texts", ids, {"assistant_model": friend, "do_sample": True, "num_return_sequences": 2}),
        ("pass one of the two", ids, {"assistant_model": friend, "prompt_lookup_num_tokens": 2}),
        ("another vocabulary", ids, {"assistant_model": other}),
        ("another kind", ids, {"assistant_model": models("t5")[0]}),
        ("can assist", ids, {"assistant_model": "gpt2"}),
        ("another tokenizer", ids, {"assistant_model": friend, "assistant_tokenizer": object()}),
        ("assistant_early_exit", ids, {"assistant_early_exit": 1}),
        ("DoLa", ids, {"dola_layers": "high"}),
        ("num_assistant_tokens is", ids, {"assistant_model": friend, "num_assistant_tokens": 0}),
        ("schedule is", ids, {"assistant_model": friend, "num_assistant_tokens_schedule": "often"}),
        ("max_matching_ngram_size", ids, {"prompt_lookup_num_tokens": 2, "max_matching_ngram_size": 0}),
        ("inputs_embeds", None, {"prompt_lookup_num_tokens": 2, "inputs_embeds": torch.zeros((1, 3, 12))}),
    ):  # fmt: skip
        with pytest.raises((ArgumentError, ConfigError), match=what):
            target.generate(given, max_new_tokens=4, **options)
    own = OfLastToken.from_pretrained(folders("gpt2", "target"))
    with pytest.raises(ArgumentError, match="prepare_inputs_for_generation does not pass on"):
        own.generate(torch.tensor([[5, 6, 7, 5, 6]]), max_new_tokens=9, eos_token_id=None, assistant_model=target)


def test_a_compiled_search_is_refused(folders: Any) -> None:
    import triptych_tf

    model = triptych_tf.TFGPT2LMHeadModel.from_pretrained(folders("gpt2", "target"))
    with pytest.raises(ArgumentError, match="a compiled search"):
        model.generate([[5, 6, 7]], max_new_tokens=4, prompt_lookup_num_tokens=2, jit_compile=True)
