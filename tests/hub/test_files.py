"""Single files of a repository by the names that transformers has for it, and its model card."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_models import REPO
from triptych import HubNotFoundError, MissingFileError
from triptych.hub.files import cached_file, create_and_tag_model_card, has_file
from triptych_conformance.hub.server import Hub


@pytest.fixture(autouse=True)
def _repository(hub: Hub, golden: Path) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, golden / "bert-mlm/pt-safetensors")


def test_a_file_is_fetched_into_the_cache(golden: Path) -> None:
    expected = (golden / "bert-mlm/pt-safetensors/config.json").read_bytes()
    path = cached_file(REPO, "config.json")
    assert path is not None and Path(path).read_bytes() == expected
    assert cached_file(REPO, "config.json", local_files_only=True) == path
    assert has_file(REPO, "config.json") and not has_file(REPO, "no.json")


def test_what_is_not_there() -> None:
    with pytest.raises(MissingFileError, match="no.json"):
        cached_file(REPO, "no.json")
    assert cached_file(REPO, "no.json", _raise_exceptions_for_missing_entries=False) is None
    with pytest.raises(HubNotFoundError):
        has_file("nobody/nothing", "config.json")


def test_a_card_is_made_or_taken_and_gets_tags(hub: Hub) -> None:
    assert create_and_tag_model_card(REPO, ["a", "b"]).data.tags == ["a", "b"]
    hub.commit(REPO, {"README.md": b"---\ntags:\n- old\n---\n# Mine\n"})
    card = create_and_tag_model_card(REPO, ["new", "old"])
    assert card.data.tags == ["old", "new"] and "# Mine" in card.text
