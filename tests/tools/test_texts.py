"""The tokenizer and chat template of a folder: read from every place that they stand in, and bounded."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from hub_models import REPO
from small_tokenizer import TEMPLATE, save_tokenizer, small_tokenizer
from triptych import (
    ArgumentError,
    ConfigError,
    CorruptCheckpointError,
    LimitError,
    MissingBackendError,
    MissingFileError,
)
from triptych.hub.snapshot import HubOptions
from triptych.tools import texts
from triptych.tools.rendering import render
from triptych.tools.texts import Texts, fetched, open_texts
from triptych_conformance.hub.server import Hub

HELLO = [{"role": "user", "content": "Hello\nyou"}]


def of(template: str) -> Texts:
    return Texts(small_tokenizer(), {"bos_token": "<s>", "eos_token": "</s>"}, template)


def test_a_folder_has_all(tmp_path: Path) -> None:
    saved = save_tokenizer(tmp_path)
    found = open_texts(tmp_path)
    assert found.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert found.encode("stop</s>") == saved.encode("stop</s>").ids
    assert found.decode(found.encode("stop</s>")) == "stop</s>"
    assert found.decode(found.encode("stop</s>"), skip_special_tokens=True) == "stop"
    assert found.render_chat(HELLO) == "<|user|>Hello\nyou</s>\n<|assistant|>"
    assert found.render_chat(HELLO, add_generation_prompt=False) == "<|user|>Hello\nyou</s>\n"
    assert found.decode(found.encode_chat(HELLO)) == "<|user|>Hello\nyou</s>\n<|assistant|>"


def test_special_tokens_beside(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": "no", "pad_token": {"content": "</s>"}}))
    assert open_texts(tmp_path).special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}


def test_where_the_template_is(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": "several"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": several}))
    assert open_texts(tmp_path).chat_template == "several"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert open_texts(tmp_path).chat_template == "json"
    (tmp_path / "chat_template.jinja").write_text("jinjä")
    assert open_texts(tmp_path).chat_template == "jinjä"


def test_there_may_be_no_template(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, template=None)
    found = open_texts(tmp_path)
    assert found.chat_template is None
    with pytest.raises(ArgumentError, match=r"no chat template.*chat_template\.jinja"):
        found.encode_chat(HELLO)


@pytest.mark.parametrize(
    ("file", "text", "error", "match"),
    [
        ("tokenizer.json", None, MissingFileError, "AutoTokenizer"),
        ("tokenizer.json", "{}", CorruptCheckpointError, "no tokenizer"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": -1}}}', CorruptCheckpointError, "no tokenizer"),
        ("tokenizer_config.json", "[]", ConfigError, "not a JSON object"),
        ("tokenizer_config.json", '{"bos_token": 3}', ConfigError, "no text"),
        ("tokenizer_config.json", '{"chat_template": 3}', ConfigError, "no text"),
    ],
)
def test_damage_is_named(tmp_path: Path, file: str, text: str | None, error: type[Exception], match: str) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(error, match=match):
        open_texts(tmp_path)


def test_a_text_is_neither_cut_nor_filled(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert open_texts(tmp_path).decode(open_texts(tmp_path).encode("the stop a")) == "the stop a"


TEMPLATES = {
    "plain": TEMPLATE,
    "blocks": "{% if true %}\n  {% for m in messages %}\n{{ m.content | trim }}\n  {% endfor %}\n{% endif %}",
    "json": "{{ messages | tojson(indent=2) }}{{ {'b': 'é<', 'a': 1} | tojson }}",
    "controls": "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}!{% endgeneration %};{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_say_what_they_say_in_transformers(name: str) -> None:
    messages = [{"role": "system", "content": " be\nbrief "}, *HELLO]
    theirs = PreTrainedTokenizerFast(tokenizer_object=small_tokenizer(), eos_token="</s>")
    template = TEMPLATES[name]
    expected = theirs.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, tokenize=False)
    values = {"messages": messages, "add_generation_prompt": True, "eos_token": "</s>"}
    assert render(template, values) == expected != ""


def test_the_time_is_told() -> None:
    assert of("{{ strftime_now('%Y') }}").render_chat(HELLO) in {str(datetime.now().year + n) for n in (-1, 0)}


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages[0].nothing.more }}", "UndefinedError"),
        ("{% include 'other' %}", "no loader"),
    ],
)
def test_a_template_may_not_do_everything(template: str, match: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 (a template may raise anything)
        render(template, {"messages": HELLO})
    assert re.search(match, f"{type(caught.value).__name__}: {caught.value}")


def test_a_template_that_makes_no_text_is_told_of() -> None:
    with pytest.raises(ArgumentError, match="makes no text of the messages.*roles must alternate"):
        of("{{ raise_exception('roles must alternate') }}").render_chat(HELLO)
    with pytest.raises(ArgumentError, match="ZeroDivisionError"):
        of("{{ 1 / 0 }}").render_chat(HELLO)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(90000) %}{{ '0123456789' * 90 }}{% endfor %}",
        pytest.param(
            "{{ 'a' * 10 ** 10 }}", marks=pytest.mark.skipif(sys.platform != "linux", reason="memory has no limit")
        ),
    ],
)
def test_a_template_takes_no_more_than_it_may(template: str) -> None:
    with pytest.raises(LimitError, match="too much"):
        of(template).render_chat(HELLO)


def test_a_template_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "PATIENCE", 1)
    with pytest.raises(LimitError, match="1 seconds"):
        of("{% set r = range(90000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}").render_chat(HELLO)


@pytest.mark.parametrize("package", ["tokenizers", "jinja2"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tokenizer(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(texts, "is_installed", lambda name: name != package)

    def use() -> Any:
        return open_texts(tmp_path).render_chat(HELLO)

    with pytest.raises(MissingBackendError, match=rf"package {package}.*triptych\[generate\]"):
        use()


def test_of_a_repository_the_files_of_one_commit_are_fetched(hub: Hub, tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "saved")
    (tmp_path / "saved/model.safetensors").write_text("large")
    hub.create(REPO)
    commit = hub.commit_folder(REPO, tmp_path / "saved")
    folder, found = fetched(REPO, HubOptions())
    assert found == commit and sorted(path.name for path in folder.iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert open_texts(folder).chat_template == TEMPLATE
    assert fetched(str(tmp_path / "saved"), HubOptions()) == (tmp_path / "saved", None)
