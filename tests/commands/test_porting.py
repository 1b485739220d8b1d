"""`triptych port`: which imports it changes, what it says will not work, and that nothing else changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from textwrap import dedent

import pytest
from typer.testing import CliRunner, Result

from triptych.cli import app
from triptych.tools.porting import port

WRITTEN = dedent('''
    """A docstring that names transformers."""
    import transformers, os
    import transformers.modeling_utils as mu
    from transformers import (
        PreTrainedModel,  # the base
        PreTrainedTokenizer,
        BertConfig,
    )
    from transformers.generation import GenerationMixin
    from ...utils import logging
    from ..bert.modeling_bert import BertModel as Trunk
    from .configuration_mine import MineConfig
    try:
        from transformers.trainer import Trainer
    except ImportError:
        Trainer = None

    logger = logging.get_logger("transformers")

    class Mine(PreTrainedModel, GenerationMixin):
        config_class = MineConfig

        def go(self, tokenizer: PreTrainedTokenizer):
            model = transformers.AutoModel.from_pretrained("x", tp_plan="auto")
            return self.generate(tokenizer), transformers.__version__
''').lstrip()  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["port", *map(str, arguments)])


def lines(text: bytes) -> list[str]:
    return text.decode().splitlines()


def test_imports_change_and_nothing_else() -> None:
    ported = port(WRITTEN.encode(), package="transformers.models.mine")
    old, new = WRITTEN.splitlines(), lines(ported.text)
    assert ported.imports == 7
    assert new[0] == old[0] and "import triptych as transformers, os" in new
    assert "import triptych.modeling_utils as mu" in new and "    PreTrainedModel,  # the base" in new
    assert "from triptych.utils import logging" in new
    assert "from triptych.models.bert.modeling_bert import BertModel as Trunk" in new
    assert "from .configuration_mine import MineConfig" in new
    assert "class Mine(PreTrainedModel, GenerationMixin):" in new and new[-5:] == old[-5:]
    compile(ported.text, "ported", "exec")


def test_tokenizers_stay_with_transformers() -> None:
    ported = port(b"from transformers import AutoTokenizer as Words, BertModel, BertTokenizer\n"
                  b"from transformers.tokenization_utils_base import BatchEncoding\n\n"
                  b"words = Words.from_pretrained, BertModel, BatchEncoding\n")  # fmt: skip
    assert lines(ported.text)[:2] == [
        "from triptych import BertModel; from transformers import AutoTokenizer as Words",
        "from transformers.tokenization_utils_base import BatchEncoding",
    ]
    assert [remark.line for remark in ported.remarks] == [1, 2]
    assert all("still imported from transformers" in remark.what for remark in ported.remarks)


def test_names_that_are_missing() -> None:
    ported = port(WRITTEN.encode(), package="transformers.models.mine")
    text = ported.text.decode()
    assert "import Any as PreTrainedTokenizer" in text  # an annotation alone
    assert "from triptych.generation import GenerationMixin" in text
    assert "from triptych.trainer import Trainer" in text  # it is used: the import says what to do
    said = {(remark.line, remark.what) for remark in ported.remarks}
    assert (14, "triptych has no trainer") in said
    assert {what for line, what in said if line > 18} == {
        "`from_pretrained` takes no `tp_plan`", "`__version__` is that of triptych",
    }  # fmt: skip
    assert all(remark.remedy for remark in ported.remarks)


def test_relative_imports_stay_where_nobody_says_that_they_lead_to_transformers() -> None:
    text = b"from ...utils import logging\n"
    assert port(text).text == text and port(text).imports == 0


def test_a_file_changes_in_place_or_beside(tmp_path: Path) -> None:
    source = tmp_path / "modeling_mine.py"
    source.write_text("from transformers import PreTrainedModel\r\n", newline="")
    done = run(source, "--output", tmp_path / "out")
    assert done.exit_code == 0 and "1 imports, 0 remarks" in done.stdout
    assert (tmp_path / "out/modeling_mine.py").read_bytes() == b"from triptych import PreTrainedModel\r\n"
    assert source.read_bytes().startswith(b"from transformers")
    assert run(source).exit_code == 0
    assert source.read_bytes() == b"from triptych import PreTrainedModel\r\n"


def test_a_checkout_of_transformers_is_known_by_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "src/transformers/models/mine"
    folder.mkdir(parents=True)
    (folder / "modeling_mine.py").write_text("from ...modeling_utils import PreTrainedModel\n")
    done = run(folder / "modeling_mine.py", "--json", "--output", tmp_path / "one.py")
    assert json.loads(done.stdout) == {str(tmp_path / "one.py"): {"imports": 1, "remarks": []}}
    assert (tmp_path / "one.py").read_text() == "from triptych.modeling_utils import PreTrainedModel\n"


@pytest.mark.parametrize(
    "text", [b"def (:\n", b"\xff\xfe\x00", b"# -*- coding: no -*-\n", b"x = " + b"(" * 9000 + b")" * 9000]
)
def test_what_is_no_python_is_refused_and_no_file_is_written(tmp_path: Path, text: bytes) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("import transformers\n")
    bad.write_bytes(text)
    done = run(good, bad)
    assert done.exit_code == 1 and "is no Python" in done.stderr
    assert good.read_text() == "import transformers\n" and bad.read_bytes() == text


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    done = run(tmp_path / "pipe.py")
    assert done.exit_code == 1 and "pipe.py" in done.stderr


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "file.py", tmp_path / "link.py"
    file.write_text("import transformers.modeling_utils as mu\n")
    link.symlink_to(file)
    assert run(link, file).exit_code == 2
    done = run(link)
    assert done.exit_code == 0 and str(link) in done.stdout
    assert link.is_symlink() and file.read_text() == "import triptych.modeling_utils as mu\n"


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").write_text("")
    done = run(tmp_path / "a/x.py", tmp_path / "b/x.py", "--output", tmp_path / "out")
    assert done.exit_code == 2 and not (tmp_path / "out").exists()


def test_what_a_mixin_gives_is_no_remark() -> None:
    mixin, method = "TFCausalLanguageModelingLoss", "    def call(self): self.hf_compute_loss(); self.set_decoder()\n"
    text = f"from transformers import TFPreTrainedModel\nclass Mine(TFPreTrainedModel{{}}):\n{method}"
    given = f"from transformers.modeling_tf_utils import {mixin}\n" + text.format(f", {mixin}")
    said = [{remark.what.split("`")[1] for remark in port(one.encode()).remarks} for one in (text.format(""), given)]
    assert said == [{"hf_compute_loss", "set_decoder"}, {"set_decoder"}]


def test_a_method_that_only_refuses_is_a_remark() -> None:
    text = "from transformers import PreTrainedModel\nmodel.dequantize(model.loss_function, model.get_encoder())\n"
    (remark,) = port(text.encode()).remarks
    assert remark.what == "the base class has no `dequantize`" and "undo" in remark.remedy
