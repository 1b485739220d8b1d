"""Streamers show words when they are complete, as transformers does, for arrays of any kind."""

from __future__ import annotations

import asyncio
import threading
from queue import Empty
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TextStreamer as Theirs

from small_tokenizer import small_tokenizer
from triptych import ArgumentError, AsyncTextIteratorStreamer, TextIteratorStreamer, TextStreamer
from triptych.generation.streamers import BaseStreamer
from triptych.generation.streaming import as_streamer

TEXT = "last stop the é\n\nstop 你好吗 the🤖 ne\n a"


class Parts:
    """The texts that a streamer hands on; mixed into one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parts: list[tuple[str, bool]] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.parts.append((text, stream_end))


class Ours(Parts, TextStreamer):
    pass


class Recorded(Parts, Theirs):
    pass


def streamed(streamer: Any, tokens: list[int], prompt: int = 3, make: Any = np.array) -> Any:
    """Do as `generate` does."""
    streamer.put(make([tokens[:prompt]]))
    for token in tokens[prompt:]:
        streamer.put(make([token]))
    streamer.end()
    return streamer


@pytest.mark.parametrize("skip_prompt", [False, True])
@pytest.mark.parametrize("options", [{}, {"skip_special_tokens": False}])
def test_words_come_as_in_transformers(skip_prompt: bool, options: dict[str, bool]) -> None:
    tokenizer = small_tokenizer()
    for text in (TEXT, "", " ", "\n", "stop</s>", "好</s>\n", TEXT + "</s>"):
        tokens = tokenizer.encode("<s>the" + text).ids
        ours, theirs = Ours(tokenizer, skip_prompt, **options), Recorded(tokenizer, skip_prompt, **options)
        for _ in range(2):  # a streamer may be used again
            streamed(ours, tokens)
            streamed(theirs, tokens, make=torch.tensor)
        assert ours.parts == theirs.parts
        assert len(ours.parts) > 2 * (len(tokens) - 3)


def test_a_word_is_shown_when_it_is_complete() -> None:
    tokenizer = small_tokenizer()
    shown = streamed(Ours(tokenizer, True), tokenizer.encode("the stop a 你").ids, prompt=1).parts
    assert [text for text, _ in shown if text] == ["he ", "stop ", "a ", "你"] and shown[-1] == ("", True)


def test_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = small_tokenizer()
    streamed(TextStreamer(tokenizer), tokenizer.encode(TEXT).ids)
    assert capsys.readouterr().out == TEXT + "\n"


def test_several_rows_are_refused() -> None:
    with pytest.raises(ArgumentError, match="(?s)1 row.*2 rows"):
        TextStreamer(small_tokenizer()).put(np.ones((2, 3), int))


def test_texts_are_iterated_over_in_another_thread() -> None:
    tokenizer = small_tokenizer()
    streamer = TextIteratorStreamer(tokenizer, timeout=60)
    thread = threading.Thread(target=streamed, args=(streamer, tokenizer.encode(TEXT).ids))
    thread.start()
    assert "".join(streamer) == TEXT
    thread.join()


def test_waiting_for_a_text_ends() -> None:
    with pytest.raises(Empty):
        next(TextIteratorStreamer(small_tokenizer(), timeout=0.01))


def test_texts_are_iterated_over_in_a_coroutine() -> None:
    tokenizer = small_tokenizer()

    async def read() -> str:
        streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
        work = asyncio.to_thread(streamed, streamer, tokenizer.encode("</s>" * 3 + TEXT).ids)
        task = asyncio.ensure_future(work)
        found = "".join([text async for text in streamer])
        await task
        return found

    async def wait() -> None:
        async for _ in AsyncTextIteratorStreamer(tokenizer, timeout=0.01):
            pass

    assert asyncio.run(read()) == TEXT
    with pytest.raises(TimeoutError):
        asyncio.run(wait())


def test_a_function_gets_new_tokens() -> None:
    found: list[np.ndarray] = []
    streamer = as_streamer(found.append)
    for _ in range(2):
        streamer.put(np.ones((2, 3), int))
        streamer.put(torch.tensor([4, 5]))
        streamer.put(np.array([6, 7]))
        streamer.end()
    assert [type(tokens) for tokens in found] == [np.ndarray] * 4
    assert [tokens.tolist() for tokens in found] == [[4, 5], [6, 7]] * 2


def test_what_is_no_streamer_is_refused() -> None:
    streamer = TextStreamer(small_tokenizer())
    assert as_streamer(streamer) is streamer
    with pytest.raises(ArgumentError, match="put and end"):
        as_streamer("stdout")
    for method in (lambda: BaseStreamer().put([1]), BaseStreamer().end):
        with pytest.raises(NotImplementedError, match="define it"):
            method()
