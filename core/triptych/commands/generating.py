"""The verb that runs a model: generate."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triptych.commands import app, errors_as_messages, printable
from triptych.names import BACKENDS

if TYPE_CHECKING:
    from triptych.config import PretrainedConfig
    from triptych.tools.texts import Texts

Framework = StrEnum("Framework", {name: name for name in BACKENDS})  # type: ignore[misc]

_GENERATE_HELP = """Continue TEXT, or answer it, with the model MODEL, and print that as it is generated.

Where MODEL has a chat template, TEXT is what a user says, and its answer is printed; with --no-chat, or without a
template, TEXT is continued, and printed first. What is not said here is as generation_config.json says. Beams are
printed at the end. Needs a framework, and tokenizers and jinja2: pip install 'triptych\\[pt,generate]'."""


@app.command(help=_GENERATE_HELP, epilog='Example: triptych generate smollm2 "What is the capital of France?"')
def generate(
    model: Annotated[str, typer.Argument(help="A folder with weights and tokenizer.json, or org/name of the Hub.")],
    text: Annotated[str, typer.Argument(help="- reads it from the standard input.")],
    framework: Annotated[Framework | None, typer.Option(help="By default the first that is installed.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="At most so many, and so many as the model knows.")] = 256,
    do_sample: Annotated[bool | None, typer.Option(help="Draw tokens, or take the likeliest.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling: below 1 is nearer to the likeliest.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from tokens of so much probability.")] = None,
    num_beams: Annotated[int | None, typer.Option(min=1, help="Search with so many beams.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1 keeps from repeating.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same draws each time.")] = None,
    system: Annotated[str | None, typer.Option(help="What a chat begins with, in the role of the system.")] = None,
    chat: Annotated[bool | None, typer.Option(help="Whether to use the chat template.")] = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print words as they come.")] = True,
) -> None:
    given = {
        "do_sample": do_sample, "temperature": temperature, "top_k": top_k, "top_p": top_p, "num_beams": num_beams,
        "repetition_penalty": repetition_penalty, "seed": seed,
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    with errors_as_messages():
        from triptych.hub.snapshot import HubOptions
        from triptych.modeling.auto import AutoConfig
        from triptych.tools.texts import fetched, open_texts

        folder, commit = fetched(model, HubOptions())
        texts = open_texts(folder)
        config = AutoConfig.from_pretrained(model, revision=commit)
        decoder_only = not config.is_encoder_decoder
        is_chat = texts.chat_template is not None and decoder_only if chat is None else chat
        tokens = _prompt(texts, sys.stdin.read().rstrip("\n") if text == "-" else text, is_chat, system)
        options["max_new_tokens"] = _room(config, tokens, max_new_tokens) if decoder_only else max_new_tokens
        backend = framework.value if framework else _first_installed()
        loaded = _load(backend, model, commit, decoder_only)
        _print(loaded, backend, texts, tokens, options, skip_prompt=is_chat or not decoder_only, stream=stream)


def _prompt(texts: Texts, text: str, is_chat: bool, system: str | None) -> list[int]:
    """Return the tokens of the prompt."""
    from triptych.errors import ArgumentError

    if system is not None and not is_chat:
        raise ArgumentError("--system is of a chat.", remedy="use a model with a chat template, or leave it out")
    messages = [{"role": "system", "content": system}] if system is not None else []
    tokens = texts.encode_chat([*messages, {"role": "user", "content": text}]) if is_chat else texts.encode(text)
    if not tokens:
        raise ArgumentError("There is nothing to continue.", expected="a text", received=repr(text))
    return tokens


def _room(config: PretrainedConfig, tokens: list[int], wanted: int) -> int:
    """Return how many of the tokens that are `wanted` a decoder of `config` has positions for.

    Raises:
        ArgumentError: none. ConfigError: the model does not have a token of the prompt.
    """
    from triptych.errors import ArgumentError, ConfigError

    if max(tokens) >= getattr(config, "vocab_size", max(tokens) + 1):
        raise ConfigError("Tokenizer and model do not belong together.", expected=f"tokens below {config.vocab_size}",
                          received=f"token {max(tokens)}")  # fmt: skip
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return wanted
    if len(tokens) >= positions:
        raise ArgumentError("The text is too long for the model.", expected=f"fewer than {positions} tokens",
                            received=f"{len(tokens)}")  # fmt: skip
    return min(wanted, positions - len(tokens))


def _first_installed() -> str:
    from triptych.backends import is_installed
    from triptych.errors import MissingBackendError
    from triptych.names import FRAMEWORKS

    for backend, modules in FRAMEWORKS.items():
        if all(map(is_installed, modules)):
            return backend
    raise MissingBackendError("No framework is installed.", expected="PyTorch, TensorFlow or JAX with flax",
                              received="none of them", remedy="pip install 'triptych[pt,generate]'")  # fmt: skip


def _load(backend: str, model: str, commit: str | None, decoder_only: bool) -> Any:
    from triptych.backends import require
    from triptych.names import defined_in

    require(backend)
    name = f"{BACKENDS[backend][1]}AutoModelFor{'CausalLM' if decoder_only else 'Seq2SeqLM'}"
    return getattr(importlib.import_module(defined_in()[name]), name).from_pretrained(model, revision=commit)


def _print(
    model: Any,
    backend: str,
    texts: Texts,
    tokens: list[int],
    options: Mapping[str, Any],
    *,
    skip_prompt: bool,
    stream: bool,
) -> None:
    """Generate, and print the text: as it comes, unless there are beams, or at the end."""
    import numpy as np

    from triptych.generation.on_host import on_host
    from triptych.generation.streaming import TextStreamer

    class Printer(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            typer.echo("".join(c if c in "\n\t" else printable(c) for c in text), nl=stream_end)

    printer = Printer(texts, skip_prompt, skip_special_tokens=True)
    to_native = importlib.import_module(f"{BACKENDS[backend][0]}.arrays").to_native
    dtype = np.int64 if backend == "pt" else np.int32
    ids, mask = (to_native(np.array([row], dtype)) for row in (tokens, [1] * len(tokens)))
    beams = options.get("num_beams", getattr(model.generation_config, "num_beams", None))
    if stream and beams in (None, 1):
        model.generate(ids, attention_mask=mask, streamer=printer, **options)
        return
    found = model.generate(ids, attention_mask=mask, **options)
    row = on_host(getattr(found, "sequences", found))[0]
    begin = 1 if model.config.is_encoder_decoder else len(tokens)
    for part in (row[:begin], row[begin:]):
        printer.put(part)
    printer.end()
