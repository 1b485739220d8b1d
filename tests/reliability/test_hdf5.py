"""HDF5 files that unfold, or hold a model's code: rows 46 and 51 of `test_rows`."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from triptych import LimitError
from triptych.formats.hdf5.file import open_hdf5
from triptych.tensors import limits


@pytest.mark.parametrize("parts", [1, 4])
def test_row_46_compressed_datasets_unfold_to_so_much_only(
    parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"w{number}" for number in range(parts)]
    with h5py.File(tmp_path / "tf_model.h5", "w", libver="earliest") as file:
        for name in names:
            chunks = (2**18 // parts,)
            file.create_dataset(name, data=np.zeros(2**20 // parts, "f4"), chunks=chunks, compression="gzip")
        file.attrs["layer_names"] = [name.encode() for name in names]
    assert len(open_hdf5(tmp_path / "tf_model.h5").tensors) == parts
    monkeypatch.setattr(limits, "FREE_GROWTH", 2**20)  # instead of files of 256 times the size
    with pytest.raises(LimitError, match=r"unfolds.*at most 16 times"):
        open_hdf5(tmp_path / "tf_model.h5")


def test_row_51_the_config_of_a_model_in_it_is_not_looked_at(tmp_path: Path) -> None:
    hostile = {"class_name": "Lambda", "config": {"function": ["4wEAAAAAAAAAAAAAAAEAAAA=", None, None]}}
    with h5py.File(tmp_path / "tf_model.h5", "w", libver="earliest") as file:
        file["w"] = np.ones(3, "f4")
        file.attrs["layer_names"] = [b"w"]
        file.attrs["model_config"] = json.dumps({"config": {"layers": [hostile]}})
    assert open_hdf5(tmp_path / "tf_model.h5").tensors["w"].read().tolist() == [1, 1, 1]
