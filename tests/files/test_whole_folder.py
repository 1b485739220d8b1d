"""A folder that takes the place of another, or does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.files.atomic import whole_folder


def test_a_folder_is_replaced_and_what_others_put_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "a/1"
    for text in ("old", "new"):
        with whole_folder(folder, ("values",)) as made:
            (made / "values").write_text(text)
            assert not folder.exists() or (folder / "values").read_text() == "old"
        (folder / "extra").write_text("theirs")
    assert (folder / "values").read_text() == "new" and (folder / "extra").read_text() == "theirs"
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_nothing_is_changed_if_it_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), whole_folder(tmp_path / "a/b/1", ()) as made:
        (made / "values").write_text("half")
        raise ValueError("stop")
    assert not list(tmp_path.iterdir())
    (tmp_path / "1").mkdir()
    (tmp_path / "1/values").write_text("old")
    with pytest.raises(ValueError, match="stop"), whole_folder(tmp_path / "1", ("values",)) as made:
        (made / "values").write_text("half")
        raise ValueError("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["1"] and (tmp_path / "1/values").read_text() == "old"
