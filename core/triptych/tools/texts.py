"""Text and tokens: the tokenizer of a folder, and its chat template. No code of the folder runs.

The tokenizer is `tokenizer.json`, as the package tokenizers writes it; the template is `chat_template.jinja`, else
`chat_template.json`, else a field of `tokenizer_config.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.backends import is_installed
from triptych.errors import (
    ArgumentError,
    ConfigError,
    CorruptCheckpointError,
    LimitError,
    MissingBackendError,
    MissingFileError,
    UnreadableConfigError,
)
from triptych.files.json import MAX_BYTES, read_json
from triptych.files.paths import check_inside
from triptych.files.regular import open_regular
from triptych.hub.snapshot import HubOptions, find_snapshot

TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE, TEMPLATE_JSON = "chat_template.jinja", "chat_template.json"
FILES = (TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS, TEMPLATE, TEMPLATE_JSON)
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_RENDERING = Path(__file__).with_name("rendering.py")
PATIENCE = 30
"""Seconds that a template has, those of its process' start among them; it is allowed 10 of computing."""
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TZ", "LANG", "LC_ALL")


@dataclass(frozen=True)
class Texts:
    """What makes tokens of text, and text of tokens.

    - `tokenizer`: a `tokenizers.Tokenizer`.
    - `special_tokens`: by role, such as "eos_token".
    - `chat_template`: in the language of Jinja2; None if there is none.
    """

    tokenizer: Any
    special_tokens: Mapping[str, str]
    chat_template: str | None = None

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, with those that the tokenizer puts around one."""
        return list(self.tokenizer.encode(text).ids)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the tokens of a chat up to where the answer begins.

        Args:
            messages: each with "role" ("system", "user", "assistant") and "content".

        Raises:
            As `render_chat`.
        """
        return list(self.tokenizer.encode(self.render_chat(messages), add_special_tokens=False).ids)

    def render_chat(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """Return a chat as text, by the chat template.

        The template is rendered by a process of its own, in Jinja2's sandbox: at most 10 seconds of computing, 4
        million characters, and on Linux 1 GiB of memory, on macOS and Windows as much as there is.

        Raises:
            ArgumentError: there is no template, or it refuses the messages. LimitError: it takes too much.
            MissingBackendError: no package jinja2.
        """
        if self.chat_template is None:
            raise ArgumentError("The folder has no chat template.", expected=f"{TEMPLATE}, {TEMPLATE_JSON}, or a field "
                                f"chat_template in {TOKENIZER_CONFIG}", remedy="give plain text")  # fmt: skip
        values = {"messages": list(messages), "add_generation_prompt": add_generation_prompt, **self.special_tokens}
        return _rendered(self.chat_template, values)

    def decode(self, tokens: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the text of tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens))


def open_texts(folder: str | os.PathLike[str]) -> Texts:
    """Return the tokenizer of a folder.

    Raises:
        MissingFileError: there is no tokenizer.json. CorruptCheckpointError: it is none. UnreadableConfigError,
        ConfigError: of the files beside it. MissingBackendError: no package tokenizers.
    """
    place = Path(folder)
    tokenizer = _tokenizer(place / TOKENIZER)
    config = _read(place / TOKENIZER_CONFIG)
    known = {**_read(place / SPECIAL_TOKENS), **{k: v for k, v in config.items() if v is not None}}
    special = {role: _content(known[role]) for role in _ROLES if known.get(role) is not None}
    return Texts(tokenizer, special, _template(place, config))


def fetched(path_or_repo_id: str, options: HubOptions) -> tuple[Path, str | None]:
    """Return the folder in which the tokenizer of a model is, and of a repository the commit that it is of.

    Raises:
        HubError and its subclasses.
    """
    if os.path.isdir(path_or_repo_id):
        return Path(path_or_repo_id), None
    snapshot = find_snapshot(path_or_repo_id, options)
    return snapshot.fetch([name for name in FILES if name in snapshot.files]), snapshot.commit


def _tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as cause:
        raise _without("tokenizers") from cause
    if not path.is_file():
        raise MissingFileError(
            f"There is no {path}.",
            expected=f"{TOKENIZER}, as the package tokenizers and `save_pretrained` of transformers write it",
            remedy="save the tokenizer with transformers' AutoTokenizer, whose fast tokenizers write this file",
        )
    data = _bytes(path)
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as cause:  # tokenizers raises nothing narrower
        raise CorruptCheckpointError(f"{path} is no tokenizer.", received=str(cause)[:200]) from cause
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _bytes(path: Path) -> bytes:
    check_inside(path.parent, path)
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise LimitError(f"{path} is too large.", expected=f"at most {MAX_BYTES} bytes")
    return data


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    check_inside(path.parent, path)
    return read_json(path, UnreadableConfigError)


def _content(token: Any) -> str:
    """Return the text of a special token, which files write by itself or with its properties."""
    text = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(text, str):
        raise ConfigError("A special token is no text.", received=repr(token)[:80])
    return text


def _template(place: Path, config: Mapping[str, Any]) -> str | None:
    if (place / TEMPLATE).is_file():
        data = _bytes(place / TEMPLATE)
        try:
            return data.decode()
        except UnicodeDecodeError as cause:
            raise ConfigError(f"{place / TEMPLATE} is no text.", received=str(cause)) from cause
    found = _read(place / TEMPLATE_JSON).get("chat_template", config.get("chat_template"))
    if isinstance(found, list):  # several, by name
        named = [one for one in found if isinstance(one, Mapping) and one.get("name") == "default"]
        found = named[0].get("template") if named else None
    if not isinstance(found, (str, type(None))):
        raise ConfigError(f"The chat template of {place} is no text.", received=repr(found)[:80])
    return found


def _rendered(template: str, values: Mapping[str, Any]) -> str:
    if not is_installed("jinja2"):
        raise _without("jinja2")
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_RENDERING)],
            input=json.dumps({"template": template, "values": values}),
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as cause:
        raise _too_much(f"{PATIENCE} seconds") from cause
    if done.returncode:
        raise _too_much(f"ended with status {done.returncode} {done.stderr[-200:]}")
    answer = json.loads(done.stdout)
    if "limit" in answer:
        raise _too_much(answer["limit"])
    if "error" in answer:
        raise ArgumentError("The chat template makes no text of the messages.", received=answer["error"])
    return str(answer["text"])


def _too_much(received: str) -> LimitError:
    return LimitError("The chat template takes too much time, memory or text.", received=received.strip())


def _without(package: str) -> MissingBackendError:
    return MissingBackendError("Text needs a tokenizer.", expected=f"the package {package}", received="it is not "
                               "installed", remedy="pip install 'triptych[generate]'")  # fmt: skip
