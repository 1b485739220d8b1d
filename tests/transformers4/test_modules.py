"""Files written for transformers 4 import from triptych what they imported from there, or are told what to do."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import triptych
from places import ROOT
from triptych import ArgumentError, MissingNameError
from triptych.names import MODEL_MODULES
from triptych.transformers4 import table

FOLDER = ROOT / "core/triptych/transformers4"
MODULES = sorted(
    ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__")
    for path in FOLDER.rglob("*.py")
    if not path.stem.startswith("_") or path.parent != FOLDER
)
OF_FAMILIES = ("configuration_{}", "modeling_{}", "modeling_tf_{}", "modeling_flax_{}")


def test_importing_them_all_imports_no_framework() -> None:
    imports = "\n".join(f"import triptych.{module}" for module in MODULES)
    code = f"import json, sys\n{imports}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert len(MODULES) > 25 and {"triptych.modeling_utils", "triptych.utils.logging"} <= loaded
    assert not loaded & {"torch", "tensorflow", "keras", "jax", "flax", "huggingface_hub"}


@pytest.mark.parametrize("module", [*MODULES, "transformers4._toplevel"])
def test_every_name_is_there(module: str) -> None:
    held = importlib.import_module(f"triptych.{module}")
    missing = []
    for name in table(held.__name__):
        try:
            getattr(held, name)
        except AttributeError:
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize("family", MODEL_MODULES)
def test_a_built_in_family_has_its_modules(family: str) -> None:
    config, pt, tf, flax = (
        importlib.import_module(f"triptych.models.{family}.{file.format(family)}") for file in OF_FAMILIES
    )
    stem = next(name for name in dir(config) if name.endswith("Config")).removesuffix("Config")
    for module, prefix in ((pt, ""), (tf, "TF"), (flax, "Flax")):
        name = f"{prefix}{stem}Model"
        assert getattr(module, name) is getattr(triptych, name)
        assert getattr(importlib.import_module(f"triptych.models.{family}"), name) is getattr(triptych, name)


def test_one_module_under_two_names_is_one() -> None:
    from triptych.utils import logging as same

    from triptych import logging, modeling_utils

    assert logging is same and triptych.modeling_utils is modeling_utils
    assert modeling_utils.PreTrainedModel is triptych.PreTrainedModel


def test_a_star_import_brings_what_the_module_has() -> None:
    held: dict[str, object] = {}
    # A star is allowed at the top of a module alone, so the statement, which is written here, has a dict for one.
    exec("from triptych.modeling_outputs import *", held)
    assert {"BaseModelOutput", "MoeModelOutputWithPast", "ModelOutput"} <= set(held)


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        ("from triptych.generation import BeamSearchScorer", "num_beams"),
        ("from triptych.generation.beam_constraints import PhrasalConstraint", "prefix_allowed_tokens_fn"),
        ("from triptych import AutoTokenizer", "tokenizers"),
        ("from triptych import Trainer", "accelerate"),
        ("from triptych import pipeline", "call tokenizer and model"),
        ("from triptych.utils import GPTQConfig", "triptych.QuantizationConfig"),
        ("from triptych.trainer import Trainer", "trainer"),
        ("import triptych.tokenization_utils_base", "tokenizers"),
        (
            "from triptych.modeling_utils import load_sharded_checkpont",
            "use triptych.modeling_utils.load_sh",
        ),
        ("from triptych import BertForMaskedLMs", "use triptych.BertForMaskedLM"),
        ("from triptych import TFBertModell", "use triptych.TFBertModel"),
        ("from triptych import ViTModel", "the families are"),
        ("from triptych import FlaxXLMRobertaForMaskedLM", "the families are"),
        ("from triptych.models.albert.modeling_albert import AlbertModel", "triptych port"),
        ("from triptych.models.bert.modeling_bert import load_tf_weights_in_bert", "TensorFlow 1"),
        ("from triptych.models.bert.modeling_bert import BERT_START_DOCSTRING", "docstrings"),
        ("from triptych.utils import no_such_name", "where it is defined"),
    ],
)
def test_what_is_missing_says_what_to_do(statement: str, remedy: str) -> None:
    with pytest.raises(ImportError, match=remedy) as caught:
        exec(statement)  # one of those above: what the statement raises is tested, which importlib would not
    assert type(caught.value) is MissingNameError


def test_the_files_of_a_family_have_what_they_import_themselves() -> None:
    from triptych.models.bert.modeling_bert import BaseModelOutput, ModelOutput, PreTrainedModel, logging
    from triptych.models.t5.modeling_t5 import ACT2FN, Seq2SeqLMOutput

    assert issubclass(Seq2SeqLMOutput, ModelOutput) and issubclass(BaseModelOutput, ModelOutput)
    assert "relu" in ACT2FN and PreTrainedModel is triptych.PreTrainedModel and logging.get_logger(__name__)


def test_stages_of_a_vision_config_are_aligned_checked_and_saved(tmp_path: Path) -> None:
    from triptych.utils.backbone_utils import BackboneConfigMixin, BackboneMixin
    from triptych.utils.backbone_utils import get_aligned_output_features_output_indices as aligned

    stages = ["stem", "one", "two"]
    assert aligned(None, None, stages) == (["two"], [2])
    assert aligned(["stem", "two"], None, stages) == (["stem", "two"], [0, 2])
    assert aligned(None, (0, -1), stages) == (["stem", "two"], [0, -1])
    for names, numbers in ((["two", "one"], None), (["three"], None), (None, [3]), (None, [1, 1]), (["one"], [2])):
        with pytest.raises(ArgumentError, match="out_"):
            aligned(names, numbers, stages)

    class Staged(BackboneConfigMixin, triptych.PretrainedConfig):
        model_type = "staged"

        def __init__(self, out_features: Any = None, out_indices: Any = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.stage_names = stages
            self._out_features, self._out_indices = aligned(out_features, out_indices, stages)

    config = Staged(out_indices=[1])
    config.out_features = ["stem", "one"]
    config.save_pretrained(tmp_path)
    again = Staged.from_pretrained(tmp_path)
    assert (again.out_features, again.out_indices) == (["stem", "one"], [0, 1])

    class Backbone(BackboneMixin):
        def forward(self, x: int) -> int:
            return x

        __call__ = forward

    model = Backbone()
    model._init_backbone(config)
    model.num_features = [4, 8, 16]
    assert model.channels == [4, 8] and model.forward_with_filtered_kwargs(3, unknown=1) == 3


def test_a_missing_attribute_is_an_attribute_error() -> None:
    import triptych.modeling_utils as module

    assert not hasattr(module, "no_such_name") and not hasattr(triptych, "no_such_name")
    assert getattr(module, "__wrapped__", None) is None
    with pytest.raises(AttributeError, match="tokenizers"):
        triptych.AutoTokenizer  # noqa: B018


def test_a_file_of_others_needs_no_more_than_its_imports_changed(tmp_path: Path) -> None:
    source = ROOT / "tests/support/written_for_transformers4.py"
    text = source.read_text().replace("from transformers", "from triptych")
    (tmp_path / "ported_by_sed.py").write_text(text)
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module("ported_by_sed")
    finally:
        sys.path.remove(str(tmp_path))
    module.round_trip(tmp_path / "saved")
