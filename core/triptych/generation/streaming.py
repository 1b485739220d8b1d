"""Tokens as they are generated: printed, iterated over, or handed to a function.

`generate` calls `put` with the prompt, int [R, L], then with each new token, int [R], then `end`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from queue import Queue
from typing import Any

import numpy as np

from triptych.errors import ArgumentError, MissingMethodError
from triptych.generation.on_host import on_host

_IDEOGRAPHS = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""Blocks of Unicode whose characters are written without spaces."""


class BaseStreamer:
    """What `generate(streamer=)` takes."""

    def put(self, value: Any) -> None:
        """Take the prompt, int [R, L], or the next token of each row, int [R]: an array of any framework."""
        raise MissingMethodError(f"{type(self).__name__} has no put.", remedy="define it in the subclass")

    def end(self) -> None:
        """Take notice that there is no more."""
        raise MissingMethodError(f"{type(self).__name__} has no end.", remedy="define it in the subclass")


class CallbackStreamer(BaseStreamer):
    """Hands each new token to a function, as NumPy's int [R]; not the prompt."""

    def __init__(self, callback: Callable[[np.ndarray], object]) -> None:
        self._callback = callback
        self._begun = False

    def put(self, value: Any) -> None:
        if self._begun:
            self._callback(on_host(value))
        self._begun = True

    def end(self) -> None:
        self._begun = False


def as_streamer(value: Any) -> Any:
    """Return an object with `put` and `end` as it is, and a function as a `CallbackStreamer`.

    Raises:
        ArgumentError: neither.
    """
    if callable(getattr(value, "put", None)) and callable(getattr(value, "end", None)):
        return value
    if callable(value):
        return CallbackStreamer(value)
    raise ArgumentError("streamer is none.", expected="an object with put and end, or a function of tokens",
                        received=repr(value)[:80])  # fmt: skip


class TextStreamer(BaseStreamer):
    """Prints the text of one row, word by word.

    A word is complete when a space or a new line follows it, and an ideograph by itself. Where the text should go
    elsewhere, a subclass defines `on_finalized_text`.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, a tokenizer of transformers, or any object with such a `decode`.
        skip_prompt: leave the prompt out.
        decode_kwargs: of `tokenizer.decode`, such as `skip_special_tokens=True`.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode_kwargs: Any) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.decode_kwargs = decode_kwargs
        self._tokens: list[int] = []  # of the line so far
        self._shown = 0  # characters of it
        self._begun = False

    def put(self, value: Any) -> None:
        """Take tokens; the text of those words that they complete goes to `on_finalized_text`.

        Raises:
            ArgumentError: tokens of several rows.
        """
        tokens = on_host(value)
        if tokens.ndim > 1 and tokens.shape[0] != 1:
            raise ArgumentError(f"{type(self).__name__} shows one text.", expected="a batch of 1 row",
                                received=f"{tokens.shape[0]} rows", remedy="generate one text at a time")  # fmt: skip
        is_prompt, self._begun = not self._begun, True
        if is_prompt and self.skip_prompt:
            return
        self._tokens += tokens.reshape(-1).tolist()
        text = self.tokenizer.decode(self._tokens, **self.decode_kwargs)
        end = len(text) if text.endswith("\n") or _is_ideograph(text[-1:]) else text.rfind(" ") + 1
        shown = text[self._shown : end]
        self._shown += len(shown)
        if text.endswith("\n"):
            self._tokens, self._shown = [], 0
        self.on_finalized_text(shown)

    def end(self) -> None:
        """Show the rest, and end the line."""
        text = self.tokenizer.decode(self._tokens, **self.decode_kwargs) if self._tokens else ""
        rest = text[self._shown :]
        self._tokens, self._shown, self._begun = [], 0, False
        self.on_finalized_text(rest, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Print `text`, which may be empty, and at the end of all a new line."""
        print(text, end="\n" if stream_end else "", flush=True)


class TextIteratorStreamer(TextStreamer):
    """Texts for a loop in another thread than that of `generate`: `for text in streamer`.

    Args:
        timeout: seconds after which the loop raises `queue.Empty` if no text came; None waits for ever, also for a
            `generate` that has failed.
    """

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.timeout = timeout
        self.text_queue: Queue[str | None] = Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand `text` to the loop, and at the end of all end the loop."""
        self.text_queue.put(text)
        if stream_end:
            self.text_queue.put(None)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = self.text_queue.get(timeout=self.timeout)
        if text is None:
            raise StopIteration
        return text


class AsyncTextIteratorStreamer(TextStreamer):
    """Texts for a coroutine, while `generate` runs in a thread: `async for text in streamer`. It is made in one.

    Args:
        timeout: seconds after which the loop raises `TimeoutError` if no text came; None waits for ever.
    """

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.timeout = timeout
        self.text_queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.loop = asyncio.get_running_loop()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand `text` to the loop, and at the end of all end the loop."""
        self.loop.call_soon_threadsafe(self.text_queue.put_nowait, text)
        if stream_end:
            self.loop.call_soon_threadsafe(self.text_queue.put_nowait, None)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        async with asyncio.timeout(self.timeout):
            text = await self.text_queue.get()
        if text is None:
            raise StopAsyncIteration
        return text


def _is_ideograph(char: str) -> bool:
    return bool(char) and any(first <= ord(char) <= last for first, last in _IDEOGRAPHS)
