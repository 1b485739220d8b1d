"""`triptych generate`: what the model is asked for, what is printed, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from small_tokenizer import save_tokenizer, small_tokenizer
from triptych import GenerationConfig, LlamaConfig, T5Config
from triptych.cli import app
from triptych.commands import generating
from triptych.names import FRAMEWORKS

CONFIG = {"vocab_size": 400, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
          "intermediate_size": 8, "max_position_embeddings": 100}  # fmt: skip


class Model:
    """Stands for a model: it says `answer`, and keeps what it was asked."""

    def __init__(self, config: Any, answer: str) -> None:
        self.config, self.answer = config, answer
        self.generation_config = GenerationConfig()
        self.asked: dict[str, Any] = {}

    def generate(self, input_ids: Any, attention_mask: Any, streamer: Any = None, **options: Any) -> Any:
        self.asked = {**options, "streamed": streamer is not None}
        self.prompt = small_tokenizer().decode(input_ids[0].tolist(), skip_special_tokens=False)
        assert attention_mask.shape == input_ids.shape and attention_mask.numpy().all()
        begun = torch.tensor([[0]]) if self.config.is_encoder_decoder else input_ids
        new = torch.tensor(small_tokenizer().encode(self.answer).ids)
        for tokens in (begun, *new.reshape(-1, 1)) if streamer else ():
            streamer.put(tokens)
        if streamer:
            streamer.end()
        return torch.cat([begun, new[None]], 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LlamaConfig(**CONFIG).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    return tmp_path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model(LlamaConfig(**CONFIG), "stop\n\tthe 好\x1b[31m a</s>")
    monkeypatch.setattr(generating, "_load", lambda *asked: model)
    return model


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["generate", *map(str, arguments)], input=stdin)


@pytest.mark.parametrize("stream", [(), ("--no-stream",), ("--num-beams", 3)])
def test_an_answer(folder: Path, model: Model, stream: tuple[object, ...]) -> None:
    result = run(folder, "Hello", *stream)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert model.prompt == "<|user|>Hello</s>\n<|assistant|>"
    assert result.stdout == "stop\n\tthe 好 [31m a\n"
    assert model.asked["streamed"] == (stream == ())


@pytest.mark.parametrize("stream", [(), ("--no-stream",)])
def test_a_continuation(folder: Path, model: Model, stream: tuple[str, ...]) -> None:
    result = run(folder, "The first ", "--no-chat", *stream)
    assert model.prompt == "The first " and result.stdout == "The first stop\n\tthe 好 [31m a\n"


def test_without_a_template_a_text_is_continued(folder: Path, model: Model) -> None:
    save_tokenizer(folder, template=None)
    assert run(folder, "the ").stdout.startswith("the stop\n") and model.prompt == "the "


def test_an_encoder_has_the_text_and_a_decoder_answers(folder: Path, model: Model) -> None:
    model.config = T5Config(vocab_size=400)
    model.config.save_pretrained(folder)
    for stream in ((), ("--no-stream",)):
        result = run(folder, "the ", *stream)
        assert model.prompt == "the " and result.stdout == "stop\n\tthe 好 [31m a\n", result.output


def test_a_text_from_the_input_and_a_system(folder: Path, model: Model) -> None:
    run(folder, "-", "--system", "Be brief.", stdin="two\nlines\n")
    assert model.prompt == "<|system|>Be brief.</s>\n<|user|>two\nlines</s>\n<|assistant|>"


def test_what_is_asked_for(folder: Path, model: Model) -> None:
    run(folder, "a", "--no-chat")
    assert model.asked == {"max_new_tokens": 99, "streamed": True}
    options = ["--do-sample", "--temperature", 0.5, "--top-k", 5, "--top-p", 0.9, "--seed", 3, "--max-new-tokens", 7,
               "--repetition-penalty", 1.2, "--num-beams", 1]  # fmt: skip
    run(folder, "a", *options)
    assert model.asked == {"do_sample": True, "temperature": 0.5, "top_k": 5, "top_p": 0.9, "seed": 3, "num_beams": 1,
                           "max_new_tokens": 7, "repetition_penalty": 1.2, "streamed": True}  # fmt: skip
    model.generation_config.num_beams = 4
    run(folder, "a", "--no-do-sample")
    assert model.asked["do_sample"] is False and not model.asked["streamed"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("a", "--system", "b", "--no-chat"), 2, "--system is of a chat"),
        (("", "--no-chat"), 2, "nothing to continue"),
        (("a" * 101, "--no-chat"), 2, "too long for the model"),
        (("a", "--max-new-tokens", "0"), 2, ""),
        (("a", "--framework", "mxnet"), 2, ""),
    ],
)
def test_what_cannot_be_done_is_said_first(
    folder: Path, arguments: tuple[str, ...], status: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "_load", lambda *asked: pytest.fail("it was loaded"))
    result = run(folder, *arguments)
    assert result.exit_code == status and message in result.stderr and result.stdout == ""
    assert "Traceback" not in result.stderr


def test_folders_that_will_not_do(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 50}))
    result = run(folder, "the", "--no-chat")
    assert result.exit_code == 1 and "do not belong together" in result.stderr
    save_tokenizer(folder, template=None)
    result = run(folder, "the", "--chat")
    assert result.exit_code == 2 and "no chat template" in result.stderr
    (folder / "tokenizer.json").unlink()
    result = run(folder, "the")
    assert result.exit_code == 1 and "tokenizer.json" in result.stderr and "AutoTokenizer" in result.stderr


def test_the_first_framework_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych import MissingBackendError, backends

    assert generating._first_installed() == "pt"
    monkeypatch.setattr(backends, "is_installed", lambda name: name not in FRAMEWORKS["pt"])
    assert generating._first_installed() == "tf"
    monkeypatch.setattr(backends, "is_installed", lambda name: name == "tensorflow")
    with pytest.raises(MissingBackendError, match=r"triptych\[pt,generate\]"):
        generating._first_installed()


def test_the_model_is_loaded_with_its_language_head(folder: Path) -> None:
    from triptych import LlamaForCausalLM

    LlamaForCausalLM(LlamaConfig(**CONFIG)).save_pretrained(folder)
    loaded = generating._load("pt", str(folder), None, True)
    assert type(loaded) is LlamaForCausalLM and np.all([not one.training for one in loaded.modules()])
