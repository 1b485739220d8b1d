"""What training in PyTorch is accepted by that takes several processes or a compiler: too long for the suite.

    python tests/accept_train_torch.py ddp|fsdp|trainer|compile [--backend inductor] [--classes BertForMaskedLM ...]

`ddp`, `fsdp` and `trainer` run in two processes over gloo, on the CPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / one) for one in ("core", "pt", "conformance/support")]

import triptych  # noqa: E402
from small_models import PLAIN, SMALL, config_of, inputs_of  # noqa: E402

STEMS = {"bert": "BertForMaskedLM", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM",
         "t5": "T5ForConditionalGeneration"}  # fmt: skip
PROCESSES = 2


def made(kind: str, stem: str) -> Any:
    """Return a new model without dropout, the same one each time."""
    config = config_of(kind, stem)
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("drop" in name or name.endswith("_pdrop")):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    return getattr(triptych, stem)(config).train()


def texts(count: int = 4) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 31, (count, 6), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def share(batch: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    return {name: value.chunk(PROCESSES)[rank] for name, value in batch.items()}


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def worst(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Return the largest difference, by the largest value."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return max(float((found[n] - e).abs().max() / e.abs().max().clamp(min=1e-3)) for n, e in expected.items())


# -- several processes ------------------------------------------------------------------------------------------


def ddp(rank: int, folder: Path) -> None:
    """Two processes with half of a batch each have the gradients of one with the whole, however layers are computed."""
    for kind, stem in STEMS.items():
        alone = made(kind, stem)
        alone(**texts()).loss.backward()
        for options in (None, {"use_reentrant": False}, {"use_reentrant": True}):
            model = made(kind, stem)
            if options is not None:
                model.gradient_checkpointing_enable(options)
            wrapped = nn.parallel.DistributedDataParallel(model)
            wrapped(**share(texts(), rank)).loss.backward()
            difference = worst(gradients(model), gradients(alone))
            assert difference < 1e-4, (stem, options, difference)
            if rank == 0:
                print(f"ddp {stem} checkpointing {options}: {difference:.1e}")


def fsdp(rank: int, folder: Path) -> None:
    """A model that FSDP2 has split has the same gradients, and its checkpoints load whole and split."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (PROCESSES,))

    def split(model: Any) -> Any:
        for module in [m for m in model.modules() if type(m).__name__.endswith(("Layer", "Block"))]:
            fully_shard(module, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    for kind, stem in STEMS.items():
        alone = made(kind, stem)
        alone(**texts()).loss.backward()
        model = split(made(kind, stem))
        model(**share(texts(), rank)).loss.backward()
        found = {n: p.grad.full_tensor() for n, p in model.named_parameters() if p.grad is not None}
        difference = worst(found, gradients(alone))
        assert difference < 1e-4, (stem, difference)

        state, here = get_model_state_dict(model, options=whole), folder / stem
        model.save_pretrained(here / "by state_dict", state_dict=state, is_main_process=rank == 0)
        try:
            model.save_pretrained(here / "by itself")
            raise AssertionError("weights that are split were saved")
        except triptych.TriptychError as refused:
            assert "get_model_state_dict" in str(refused) and not (here / "by itself").exists()
        dcp.save(get_model_state_dict(model), checkpoint_id=here / "dcp")
        dist.barrier()
        loaded = type(alone).from_pretrained(here / "by state_dict")
        assert loaded.config.architectures == [stem], loaded.config.architectures
        assert all(torch.equal(p, alone.get_parameter(n)) for n, p in loaded.named_parameters())
        for again in (made(kind, stem), split(made(kind, stem))):
            with torch.no_grad():
                for parameter in again.parameters():
                    parameter.zero_()
            state = get_model_state_dict(again)
            dcp.load(state, checkpoint_id=here / "dcp")
            set_model_state_dict(again, state)
            values = get_model_state_dict(again, options=whole)
            assert rank or all(torch.equal(values[n], p) for n, p in alone.state_dict().items())
        if rank == 0:
            print(f"fsdp {stem}: gradients {difference:.1e}; saved, loaded, split again")
        dist.barrier()


def trainer(rank: int, folder: Path) -> None:
    """The Trainer of transformers, over two processes, ends with the weights that it has with one, and saves them."""
    import transformers

    rows = [{name: value[n] for name, value in texts(8).items()} for n in range(8)]

    def trained(batch: int, where: str) -> Any:
        arguments = transformers.TrainingArguments(
            output_dir=str(folder / where), max_steps=2, per_device_train_batch_size=batch, use_cpu=True,
            ddp_backend="gloo", report_to=[], disable_tqdm=True, save_strategy="no", activation_checkpointing=True,
            learning_rate=1e-2, optim="sgd",
        )  # fmt: skip
        model = made("gpt2", STEMS["gpt2"])
        run = transformers.Trainer(model=model, args=arguments, train_dataset=rows)
        run.train()
        run.save_model()
        return model, run

    model, run = trained(2, "two")
    assert run.args.world_size == PROCESSES
    dist.barrier()
    loaded = type(model).from_pretrained(folder / "two")
    assert all(torch.equal(p, model.get_parameter(n)) for n, p in loaded.named_parameters())
    if rank == 0:
        print("trainer: two processes trained and saved", run.state.log_history[-1]["train_loss"])


def _process(rank: int, run: Callable[[int, Path], None], folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(PROCESSES),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        run(rank, folder)
    finally:
        dist.destroy_process_group()


def in_processes(run: Callable[[int, Path], None]) -> None:
    """Call `run(rank, folder)` in each of several processes."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, (run, Path(folder), port), nprocs=PROCESSES)


# -- compilation ------------------------------------------------------------------------------------------------


def labels_of(stem: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = inputs["input_ids"]
    rows = torch.zeros(ids.shape[0], dtype=torch.long)
    if stem.endswith("QuestionAnswering"):
        return {"start_positions": rows, "end_positions": rows + 1}
    if stem == "BertForPreTraining":
        return {"labels": ids, "next_sentence_label": rows}
    if stem.endswith(("SequenceClassification", "MultipleChoice", "NextSentencePrediction")):
        return {"labels": rows}
    if stem.endswith(("TokenClassification", "ForPreTraining")):
        return {"labels": ids % 2}
    return {} if stem.endswith("Model") and "LM" not in stem else {"labels": ids}


def compiled(backend: str, stems: list[str]) -> None:
    """Every class, in training, forward and backward, without a break in its graph, for any length by two graphs."""
    from torch._dynamo.utils import counters

    for kind, stem in PLAIN:
        if stems and stem not in stems:
            continue
        for attention in ("eager",) if kind == "t5" else ("eager", "sdpa"):
            torch._dynamo.reset()
            counters.clear()
            config = config_of(kind, stem)
            torch.manual_seed(0)
            model = getattr(triptych, stem).from_config(config, attn_implementation=attention).eval()
            plain = made(kind, stem).eval()
            plain.load_state_dict(model.state_dict())
            run, worse = torch.compile(model, backend=backend, fullgraph=True), 0.0
            for length in (6, 7, 9):
                inputs = {name: torch.tensor(value) for name, value in inputs_of(stem, config).items()}
                inputs |= {n: inputs[n][..., :length].contiguous() for n in ("input_ids", "attention_mask")}
                inputs |= labels_of(stem, inputs)
                for one, called in ((model, run), (plain, plain)):
                    one.zero_grad()
                    output = called(**inputs)
                    loss = output.loss if "loss" in output else output[0].float().pow(2).mean()
                    loss.backward()
                worse = max(worse, worst(gradients(model), gradients(plain)))
            graphs = counters["stats"]["unique_graphs"]
            assert graphs <= 2, (stem, attention, graphs)
            assert worse < 1e-3, (stem, attention, worse)
            model.train()
            run(**inputs)[0].float().mean().backward()
            print(f"compile {stem} {attention}: {graphs} graphs for three lengths, gradients {worse:.1e}", flush=True)


def main() -> None:
    """Run one of the checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=["ddp", "fsdp", "trainer", "compile"])
    parser.add_argument("--backend", default="aot_eager")
    parser.add_argument("--classes", nargs="*", default=[])
    given = parser.parse_args()
    assert set(STEMS) <= set(SMALL)
    if given.check == "compile":
        compiled(given.backend, given.classes)
    else:
        in_processes({"ddp": ddp, "fsdp": fsdp, "trainer": trainer}[given.check])


if __name__ == "__main__":
    main()
