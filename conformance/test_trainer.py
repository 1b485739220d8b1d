"""The Trainer of transformers 5, its Seq2SeqTrainer, accelerate and peft take models of triptych as they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import triptych
from small_models import config_of
from triptych import ArgumentError, PretrainedConfig, PreTrainedModel
from triptych_conformance import assert_close
from triptych_pt.authors import trainers

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
OPTIONS: dict[str, Any] = {
    "max_steps": 4, "per_device_train_batch_size": 4, "logging_steps": 1, "save_steps": 2, "learning_rate": 1e-2,
    "use_cpu": True, "report_to": [], "disable_tqdm": True,
}  # fmt: skip


def made(kind: str, stem: str, dropout: bool = True) -> Any:
    """Return a new model, the same one each time."""
    config = config_of(kind, stem)
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("drop" in name or name.endswith("_pdrop")) and not dropout:
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    return getattr(triptych, stem)(config)


def rows(language: bool, count: int = 16) -> list[dict[str, torch.Tensor]]:
    """Return texts with a class each, or with tokens to predict: more or fewer of them, in some texts none."""
    ids = torch.randint(3, 31, (count, 6), generator=torch.Generator().manual_seed(0))
    labels = [ids[n].where(torch.arange(6) < n % 7, -100) if language else torch.tensor(n % 4) for n in range(count)]
    return [{"input_ids": ids[n], "attention_mask": torch.ones_like(ids[n]), "labels": labels[n]} for n in range(count)]


def trainer(model: Any, folder: Path, language: bool = False, seq2seq: bool = False, **options: Any) -> Any:
    import transformers

    kind = transformers.Seq2SeqTrainer if seq2seq else transformers.Trainer
    arguments = transformers.Seq2SeqTrainingArguments if seq2seq else transformers.TrainingArguments
    given = arguments(output_dir=str(folder), **{**OPTIONS, **options})
    texts = rows(language)
    source = {"model": model} if isinstance(model, nn.Module) else {"model_init": model}
    return kind(**source, args=given, train_dataset=texts, eval_dataset=texts[:8])


def losses(run: Any, name: str = "loss") -> list[float]:
    return [entry[name] for entry in run.state.log_history if name in entry]


def assert_same(one: Any, other: Any) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_classifier_is_trained_saved_and_resumed(tmp_path: Path) -> None:
    import transformers

    stem = "BertForSequenceClassification"
    through = trainer(made("bert", stem), tmp_path)
    through.train()
    assert len(losses(through)) == 4 and through.state.total_flos > 0
    saved = {file.name for file in (tmp_path / "checkpoint-2").iterdir()}
    assert {"config.json", "model.safetensors", "optimizer.pt", "trainer_state.json"} <= saved

    resumed = trainer(made("bert", stem), tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert losses(resumed) == losses(through)
    assert_same(resumed.model, through.model)

    found, scores = through.evaluate(), through.predict(through.eval_dataset)
    assert scores.predictions.shape == (8, 4) and scores.metrics["test_loss"] == found["eval_loss"]
    through.save_model(str(tmp_path / "last"))
    through.create_model_card(model_name="ours", language="en")
    assert "ours" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert_same(triptych.BertForSequenceClassification.from_pretrained(tmp_path / "last"), through.model)
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "last")
    assert all(torch.equal(value, through.model.state_dict()[name]) for name, value in theirs.named_parameters())


def test_tied_weights_in_shards_and_the_best_checkpoint(tmp_path: Path) -> None:
    model = made("bert", "BertForMaskedLM")
    save = model.save_pretrained
    model.save_pretrained = lambda *args, **kwargs: save(*args, max_shard_size="4KB", **kwargs)
    run = trainer(
        model, tmp_path, language=True, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True,
        metric_for_best_model="loss", greater_is_better=True, activation_checkpointing=True, bf16=True,
    )  # fmt: skip
    run.train()
    assert (tmp_path / "checkpoint-2" / "model.safetensors.index.json").is_file()
    found = losses(run, "eval_loss")
    assert found[0] > found[1] and run.state.best_global_step == 2  # by greater_is_better: the first was loaded again
    assert run.evaluate()["eval_loss"] == found[0]
    assert (
        model.is_activation_checkpointing
        and model.cls.predictions.decoder.weight is model.get_input_embeddings().weight
    )
    del model.save_pretrained
    resumed = trainer(lambda: made("bert", "BertForMaskedLM"), tmp_path, language=True, max_steps=5, bf16=True)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 5


@pytest.mark.parametrize(
    ("kind", "stem"), [("gpt2", "GPT2LMHeadModel"), ("bert", "BertForMaskedLM"), ("t5", "T5ForConditionalGeneration")]
)
def test_a_batch_in_parts_is_the_batch(kind: str, stem: str, tmp_path: Path) -> None:
    runs = []
    for batch, parts in ((4, 1), (1, 4)):
        options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": parts, "save_strategy": "no"}
        run = trainer(made(kind, stem, dropout=False), tmp_path, language=True, optim="sgd", **options)
        run.train()
        runs.append(run)
    assert runs[0].model_accepts_loss_kwargs
    assert_close(losses(runs[1]), losses(runs[0]))
    before = made(kind, stem).state_dict()
    for name, value in runs[0].model.state_dict().items():
        assert_close(runs[1].model.state_dict()[name].numpy(), value.numpy(), what=name)
    assert any(not torch.equal(value, before[name]) for name, value in runs[0].model.state_dict().items())


def test_the_loss_of_a_part() -> None:
    model = made("gpt2", "GPT2LMHeadModel").eval()
    batch = {name: torch.stack([row[name] for row in rows(True)[:7]]) for name in rows(True)[0]}
    whole, count = model(**batch).loss, int((batch["labels"][:, 1:] != -100).sum())
    parts = [model(**{n: v[i : i + 1] for n, v in batch.items()}, num_items_in_batch=count).loss for i in range(7)]
    assert float(parts[0]) == 0.0  # no label counts in it
    assert_close(float(sum(parts)), float(whole))
    part = model(batch["input_ids"], labels=batch["labels"], num_items_in_batch=2 * count, return_dict=False)
    assert_close(float(part[0]), float(whole) / 2)
    for wrong in ("7", 0, True, torch.tensor([7, 7])):
        with pytest.raises(ArgumentError, match="no number of labels"):
            model(**batch, num_items_in_batch=wrong)
    assert not made("bert", "BertModel").accepts_loss_kwargs and model.loss_type == "ForCausalLM"


def test_classes_of_authors_say_themselves_what_they_accept() -> None:
    class Own(triptych.BertForMaskedLM):
        def forward(self, input_ids: Any, labels: Any = None) -> Any:
            return super().forward(input_ids, labels=labels)

    class Taking(triptych.BertForMaskedLM):
        def forward(self, input_ids: Any, labels: Any = None, **kwargs: Any) -> Any:
            return super().forward(input_ids, labels=labels, **kwargs)

    config = config_of("bert")
    assert [kind(config).accepts_loss_kwargs for kind in (Own, Taking, triptych.BertForMaskedLM)] == [False, True, True]
    model = Taking(config)
    model.accepts_loss_kwargs = False
    assert not model.accepts_loss_kwargs


def test_seq2seq_predicts_with_generate(tmp_path: Path) -> None:
    import transformers

    model = made("t5", "T5ForConditionalGeneration")
    run = trainer(model, tmp_path, language=True, seq2seq=True, predict_with_generate=True, generation_max_length=8,
                  save_strategy="no", generation_num_beams=2)  # fmt: skip
    run.train()
    texts = {name: torch.stack([row[name] for row in run.eval_dataset]) for name in ("input_ids", "attention_mask")}
    written = model.eval().generate(**texts, max_length=8, num_beams=2)
    found = run.predict(run.eval_dataset)
    assert found.predictions[:, : written.shape[1]].tolist() == written.tolist()
    assert found.metrics["test_loss"] == run.evaluate(max_new_tokens=3)["eval_loss"]
    labels = torch.tensor([[5, -100]])
    assert model.prepare_decoder_input_ids_from_labels(labels=labels).tolist() == [[0, 5]]
    run.model.generation_config = transformers.GenerationConfig(
        max_new_tokens=4, decoder_start_token_id=0, pad_token_id=0
    )
    assert (model.generation_config.max_new_tokens, model.generation_config.max_length) == (4, 20)
    assert model.generate(**texts, labels=labels).shape == (8, 5)


def test_compiled_in_the_trainer(tmp_path: Path) -> None:
    model = made("gpt2", "GPT2LMHeadModel")
    run = trainer(model, tmp_path, torch_compile=True, torch_compile_backend="eager", language=True, max_steps=2)
    run.train()
    assert run.model is model
    assert_same(triptych.GPT2LMHeadModel.from_pretrained(tmp_path / "checkpoint-2"), model)


def test_models_within_those_of_peft(tmp_path: Path) -> None:
    import peft

    def adapted() -> Any:
        config = peft.LoraConfig(target_modules=["query"], r=2, task_type="SEQ_CLS", init_lora_weights=False)
        base = made("bert", "BertForSequenceClassification")
        return peft.get_peft_model(base, config)

    through, resumed = trainer(adapted(), tmp_path), trainer(adapted(), tmp_path)
    through.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert losses(resumed) == losses(through) and "query" in through.model.base_model.model.peft_config[
        "default"].target_modules  # fmt: skip
    merged = through.model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    assert not hasattr(merged, "peft_config")
    assert_same(triptych.BertForSequenceClassification.from_pretrained(tmp_path / "merged"), merged)
    every = peft.get_peft_model(made("gpt2", "GPT2LMHeadModel"), peft.LoraConfig(target_modules="all-linear"))
    assert "lm_head" not in " ".join(every.targeted_module_names) and len(every.targeted_module_names) == 8


def test_accelerate(tmp_path: Path) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # there is one for the process, and Trainers made it
    helper = Accelerator(cpu=True, mixed_precision="bf16")
    model = made("gpt2", "GPT2LMHeadModel")
    prepared, optimizer = helper.prepare(model, torch.optim.AdamW(model.parameters()))
    batch = {name: torch.stack([row[name] for row in rows(True)]) for name in rows(True)[0]}
    helper.backward(prepared(**batch).loss)
    optimizer.step()
    helper.save_state(str(tmp_path / "state"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer.step()
    helper.load_state(str(tmp_path / "state"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    own = helper.unwrap_model(prepared, keep_fp32_wrapper=False)
    own.save_pretrained(tmp_path / "own", is_main_process=helper.is_main_process, save_function=helper.save,
                        state_dict=helper.get_state_dict(prepared), safe_serialization=False)  # fmt: skip
    assert_same(triptych.GPT2LMHeadModel.from_pretrained(tmp_path / "own"), own)
    in_parts = float(own(**batch, num_items_in_batch=1e9).loss)  # it is the call of the class again
    assert_close(in_parts, 0.0)


def test_what_is_not_built_in_is_refused() -> None:
    model = made("bert", "BertForMaskedLM")
    for options in ({"every_n_layers": 2}, {"offload": True}):
        with pytest.raises(ArgumentError, match="every layer"):
            model.activation_checkpointing_enable(**options)
    model.activation_checkpointing_enable()
    assert model.is_activation_checkpointing
    model.activation_checkpointing_disable()
    assert not model.is_activation_checkpointing


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_whichever_is_imported_first(first: str, tmp_path: Path, monkeypatch: Any) -> None:
    name = f"trainer_imported_{first}"
    (tmp_path / f"{name}.py").write_text(
        "class Asked: pass\nclass Theirs(Asked): pass\nasks = lambda one: isinstance(one, Asked)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)

    class Ours:
        pass

    steps: list[Callable[[], Any]] = [lambda: __import__(name), lambda: trainers.introduce("Asked", Ours, (name,))]
    for step in steps if first == "theirs" else reversed(steps):
        step()
    module: Any = sys.modules.pop(name)
    assert isinstance(module, ModuleType) and module.__spec__ is not None
    assert [module.asks(one) for one in (Ours(), module.Theirs(), object())] == [True, True, False]
    assert (
        issubclass(Ours, module.Asked) and issubclass(module.Theirs, module.Asked) and not issubclass(int, module.Asked)
    )
    trainers.introduce("Asked", Ours, (name,))  # once more changes nothing
    assert isinstance(PreTrainedModel(PretrainedConfig()), PreTrainedModel)
