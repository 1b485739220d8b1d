"""Rows of the contract about what is beside the base classes: modules, functions, mixins."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triptych
from triptych import MissingNameError, TriptychError
from triptych_conformance import Backend, assert_close
from walk import row, state

SMALL = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10,
             max_position_embeddings=16)  # fmt: skip


def bert(backend: Backend, head: str = "Model", **fields: Any) -> Any:
    return backend.cls(f"Bert{head}")(triptych.BertConfig(**SMALL, **fields))


def tensor(backend: Backend, values: Any, dtype: str = "int32") -> Any:
    array = np.array(values, dtype)
    if backend.name == "pt":
        import torch

        return torch.from_numpy(array)
    return importlib.import_module("tensorflow").constant(array) if backend.name == "tf" else array


def array(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def torch_pieces() -> tuple[Any, Any]:
    return importlib.import_module("torch"), importlib.import_module("triptych.pytorch_utils")


# -- files ------------------------------------------------------------------------------------------------------


@row("1.9", pt="Y", tf="Y", flax="Y")
def names_of_files(backend: Backend, folder: Path) -> None:
    from triptych.utils import CONFIG_NAME, FLAX_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, TF2_WEIGHTS_NAME, WEIGHTS_NAME

    names = {"pt": WEIGHTS_NAME, "tf": TF2_WEIGHTS_NAME, "flax": FLAX_WEIGHTS_NAME}
    bert(backend).save_pretrained(folder, safe_serialization=False)
    assert {path.name for path in folder.iterdir()} == {CONFIG_NAME, names[backend.name]}
    assert SAFE_WEIGHTS_INDEX_NAME == "model.safetensors.index.json"


@row("1.23", pt="Y", tf="Y", flax="Y")
@row("1.24", "max_shard_size takes '1.5GB' too, and refuses bits ('20Kb')", pt="Y", tf="Y", flax="Y")
@row("4.35", pt="Y")
def sizes(backend: Backend, folder: Path) -> None:
    from triptych.utils.hub import convert_file_size_to_int

    texts = [7, "1GiB", "2MiB", "3KiB", "4GB", "5MB", "6KB", "8Gb", "16Kb"]
    numbers = [7, 2**30, 2**21, 3072, 4 * 10**9, 5 * 10**6, 6000, 10**9, 2000]
    assert [convert_file_size_to_int(text) for text in texts] == numbers
    for wrong in ("1.5GB", "1TB", "GB"):
        with pytest.raises(TriptychError, match="no size"):
            convert_file_size_to_int(wrong)


@row("4.27", pt="Y")
@row("4.28", pt="Y")
@row("4.29", pt="Y")
def files_by_name(backend: Backend, folder: Path) -> None:
    from triptych.utils import cached_file, has_file
    from triptych.utils.hub import cached_files

    (folder / "inner").mkdir()
    for name in ("a.txt", "inner/b.txt"):
        (folder / name).write_text(name)
    assert Path(cached_file(folder, "b.txt", subfolder="inner")).read_text() == "inner/b.txt"
    assert len(cached_files(folder, ["a.txt", "inner/b.txt"])) == 2
    assert has_file(folder, "a.txt") and not has_file(folder, "b.txt")
    assert cached_file(folder, "c.txt", _raise_exceptions_for_missing_entries=False) is None
    with pytest.raises(OSError, match="has no c.txt"):
        cached_file(folder, "c.txt")


@row("4.30", pt="Y")
def shards_by_index(backend: Backend, folder: Path) -> None:
    from triptych.modeling_utils import get_checkpoint_shard_files

    bert(backend).save_pretrained(folder, max_shard_size=2000)
    paths, said = get_checkpoint_shard_files(folder, str(folder / "model.safetensors.index.json"))
    assert len(paths) == len(set(said["weight_map"].values())) > 1 and all(Path(path).is_file() for path in paths)
    assert said["total_size"] > 2000 and said["all_checkpoint_keys"] == list(said["weight_map"])


@row("4.32", pt="Y")
@row("4.33", pt="Y")
@row("4.34", pt="Y")
def hub_trifles(backend: Backend, folder: Path) -> None:
    from triptych.utils import download_url, extract_commit_hash, is_offline_mode

    commit = "0123456789abcdef0123456789abcdef01234567"
    assert extract_commit_hash(f"/cache/models--x/snapshots/{commit}/config.json") == commit
    assert extract_commit_hash("/cache/config.json") is None
    assert isinstance(is_offline_mode(), bool)
    with pytest.raises(TriptychError, match="no URL"):
        download_url("config.json")


state("4.31", "tests/hub shows it, against a hub of its own", pt="Y")


@row("4.36", pt="Y")
def code_of_an_object(backend: Backend, folder: Path) -> None:
    from triptych.dynamic_module_utils import custom_object_save

    config: dict[str, Any] = {}
    (path,) = custom_object_save(logging.Formatter(), str(folder), config)
    assert Path(path).read_bytes() == Path(logging.__file__).read_bytes() and not config


# -- functions over PyTorch -------------------------------------------------------------------------------------


@row("5.1.1", "a weight that shares the parameter of one in the index is not missing", pt="Y")
def shards_into_a_module(backend: Backend, folder: Path) -> None:
    from triptych.modeling_utils import load_sharded_checkpoint

    torch, _ = torch_pieces()
    model, other = bert(backend, "ForMaskedLM"), bert(backend, "ForMaskedLM")
    model.save_pretrained(folder, max_shard_size=4000)
    result = load_sharded_checkpoint(other, folder)
    assert result.missing_keys == result.unexpected_keys == []
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(RuntimeError, match="unexpected"):
        load_sharded_checkpoint(torch.nn.Linear(2, 2), folder)
    assert load_sharded_checkpoint(torch.nn.Linear(2, 2), folder, strict=False).missing_keys == ["weight", "bias"]
    with pytest.raises(TriptychError, match="no sharded checkpoint"):
        load_sharded_checkpoint(other, folder / "none")


@row("5.1.2", "nothing is unpickled but tensors, weights_only or not", pt="Y")
@row("5.1.10", "one shard by load_shard_file; threads read ahead in every load", pt="Y")
@row("5.1.15", "not read: every load reads ahead on threads", pt="Y")
def one_file(backend: Backend, folder: Path) -> None:
    from triptych.modeling_utils import load_state_dict

    torch, _ = torch_pieces()
    torch.save({"a": torch.arange(3), "b": torch.ones(2, dtype=torch.bfloat16)}, folder / "pytorch_model.bin")
    found = load_state_dict(folder / "pytorch_model.bin")
    assert found["a"].tolist() == [0, 1, 2] and found["b"].dtype is torch.bfloat16
    assert load_state_dict(folder / "pytorch_model.bin", map_location="meta")["a"].is_meta
    found["a"].add_(1)  # it is its own memory


@row("5.1.3", pt="Y")
@row("5.1.4", pt="Y")
@row("5.1.5", pt="Y")
@row("5.2.1", pt="Y")
@row("5.2.2", pt="Y")
def dtypes_and_devices(backend: Backend, folder: Path) -> None:
    from triptych.modeling_utils import (
        ModuleUtilsMixin,
        get_parameter_device,
        get_parameter_dtype,
        get_state_dict_dtype,
    )

    torch, _ = torch_pieces()
    half = torch.nn.Linear(2, 2).half()
    assert get_state_dict_dtype({"n": torch.arange(2), "w": half.weight}) is torch.float16
    assert get_parameter_dtype(half) is torch.float16 and get_parameter_device(half).type == "cpu"

    class Counter(torch.nn.Module, ModuleUtilsMixin):
        pass

    module = Counter()
    assert module.dtype is torch.float32
    module.register_buffer("steps", torch.zeros(1, dtype=torch.int64))
    assert module.dtype is torch.int64 and module.device.type == "cpu"
    module.register_buffer("scale", torch.zeros(1, dtype=torch.float64))
    assert module.dtype is torch.float64


@row("5.1.6", pt="Y")
@row("5.1.7", pt="Y")
@row("5.1.8", pt="Y")
@row("5.1.9", pt="Y")
@row("5.1.11", pt="Y")
@row("5.1.13", pt="Y")
@row("5.1.14", pt="Y")
def small_functions(backend: Backend, folder: Path) -> None:
    from triptych import modeling_utils as theirs

    torch, _ = torch_pieces()
    layer = torch.nn.Linear(2, 2)
    held = torch.nn.Sequential(torch.nn.DataParallel(layer))
    assert theirs.unwrap_model(torch.nn.DataParallel(layer)) is layer
    assert theirs.unwrap_model(held, recursive=True)[0] is layer
    names = ["a.w", "a.b", "ab.w"]
    assert theirs.expand_device_map({"a": 0, "ab": "cpu"}, names) == {"a.w": 0, "a.b": 0, "ab.w": "cpu"}
    shards = {"a.w": "1", "a.b": "2", "ab.w": "2"}
    assert theirs.get_disk_only_shard_files({"a": "disk", "ab": "cpu"}, shards) == ["1"]
    torch.manual_seed(0)
    with theirs.no_init_weights():
        before = torch.get_rng_state()
        torch.nn.Linear(4, 4), torch.nn.Embedding(4, 4)
        assert torch.equal(torch.get_rng_state(), before)
    assert theirs.is_accelerator_device("cuda:1") and not theirs.is_accelerator_device("disk")
    assert theirs._add_variant("model.safetensors", "fp16") == "model.fp16.safetensors"
    theirs.restore_default_dtype(lambda: torch.set_default_dtype(torch.float64))()
    assert torch.get_default_dtype() is torch.float32


@row("5.1.12", "PyTorch's own allocator does it; nothing to warm where files are mapped", pt="R")
def nothing_is_warmed_up(backend: Backend, folder: Path) -> None:
    with pytest.raises(MissingNameError, match="caching_allocator_warmup"):
        from triptych.modeling_utils import caching_allocator_warmup  # noqa: F401


# -- mixins -----------------------------------------------------------------------------------------------------


@row("5.2.3", pt="Y")
def counted_parameters(backend: Backend, folder: Path) -> None:
    torch, _ = torch_pieces()

    class More(backend.cls("BertForMaskedLM")):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.extra = torch.nn.Linear(3, 5)
            self.post_init()

    model, plain = More(triptych.BertConfig(**SMALL)), bert(backend, "ForMaskedLM")
    assert model.num_parameters() == plain.num_parameters() + 20 == sum(p.numel() for p in model.parameters())
    embedded = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    assert model.num_parameters(exclude_embeddings=True) == model.num_parameters() - embedded
    model.extra.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == plain.num_parameters()


@row("5.2.4", pt="Y")
@row("5.2.5", pt="Y")
@row("11.9", pt="Y", tf="Y", flax="Y")
def counted_work(backend: Backend, folder: Path) -> None:
    model = bert(backend)
    inputs = {"input_ids": tensor(backend, np.ones((2, 5)))}
    assert model.estimate_tokens(inputs) == 10 and model.estimate_tokens({}) == 0
    assert model.floating_point_ops(inputs) == 60 * model.num_parameters(exclude_embeddings=True)
    assert model.floating_point_ops(inputs, exclude_embeddings=False) == 60 * model.num_parameters()
    buffers = sum(b.nbytes for b in model.buffers()) if backend.name == "pt" else 0
    assert model.get_memory_footprint() == 4 * model.num_parameters() + buffers
    assert model.get_memory_footprint(return_buffers=False) == 4 * model.num_parameters()


@row("5.2.6", pt="Y")
@row("5.2.7", pt="Y")
@row("5.2.8", pt="Y")
@row("11.7", pt="Y", tf="Y", flax="Y")
def masks(backend: Backend, folder: Path) -> None:
    model, low = bert(backend), np.finfo(np.float32).min
    padding = tensor(backend, [[1, 1, 0], [1, 0, 0]])
    inverted = array(model.invert_attention_mask(padding))
    assert inverted.shape == (2, 1, 1, 3) and inverted.dtype == np.float32
    assert (inverted[0, 0, 0] == [0, 0, low]).all()
    assert (array(model.get_extended_attention_mask(padding, (2, 3))) == inverted).all()
    wide = array(model.get_extended_attention_mask(tensor(backend, np.ones((2, 4, 3))), (2, 4)))
    assert wide.shape == (2, 1, 4, 3) and not wide.any()
    with pytest.raises(ValueError, match="wrong shape"):
        model.invert_attention_mask(tensor(backend, [1, 1]))
    model.config.is_decoder = True
    causal = array(model.get_extended_attention_mask(padding, (2, 3)))
    assert (causal[0, 0] == [[0, low, low], [0, 0, low], [0, 0, low]]).all()
    with_cache = type(model).create_extended_attention_mask_for_decoder((1, 2), tensor(backend, [[0, 1, 1, 1]]))
    assert array(with_cache).tolist() == [[[[0, 1, 1, 0], [0, 1, 1, 1]]]]


@row("5.2.9", pt="Y")
@row("11.6", pt="Y", tf="Y", flax="Y")
def head_masks(backend: Backend, folder: Path) -> None:
    model = bert(backend)
    assert model.get_head_mask(None, 5) == [None] * 5
    one = array(model.get_head_mask(tensor(backend, [1, 0, 1]), 5))
    assert one.shape == (5, 1, 3, 1, 1) and one.dtype == np.float32 and (one[4, 0, :, 0, 0] == [1, 0, 1]).all()
    each = array(model.get_head_mask(tensor(backend, [[1, 0, 1], [0, 1, 1]]), 2, is_attention_chunked=True))
    assert each.shape == (2, 1, 3, 1, 1, 1) and (each[1, 0, :, 0, 0, 0] == [0, 1, 1]).all()
    with pytest.raises(TriptychError, match="wrong shape"):
        model.get_head_mask(tensor(backend, np.ones((1, 2, 3))), 2)


@row("5.2.10", pt="Y")
@row("5.2.11", pt="Y")
def memory_hooks(backend: Backend, folder: Path) -> None:
    model = bert(backend)
    model.add_memory_hooks()
    model(**model.dummy_inputs)
    assert model.pooler.mem_rss_post_forward > 0 and isinstance(model.mem_rss_diff, int)
    model.reset_memory_hooks_state()
    assert model.pooler.mem_rss_post_forward == model.mem_rss_diff == 0


def own_model(trunk: str, layer: str = "embed_tokens") -> Any:
    """Return a model of the user's, whose embeddings are in a module that knows no triptych."""
    torch, _ = torch_pieces()

    class Trunk(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, layer, torch.nn.Embedding(5, 3))

    class Own(triptych.PreTrainedModel):
        config_class, base_model_prefix, _input_embed_layer = triptych.PretrainedConfig, trunk, layer

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            setattr(self, trunk, Trunk())
            self.lm_head = torch.nn.Linear(3, 5, bias=False)
            self.post_init()

    return Own(triptych.PretrainedConfig(tie_word_embeddings=False))


@row("5.3.1", pt="Y")
@row("5.3.2", pt="Y")
@row("5.3.3", pt="Y")
@row("5.3.4", pt="Y")
@row("5.3.5", pt="Y")
def embeddings_by_usual_names(backend: Backend, folder: Path) -> None:
    torch, _ = torch_pieces()
    for trunk, layer in (("model", "embed_tokens"), ("back", "embed_tokens"), ("model", "tokens")):
        model, new = own_model(trunk, layer), torch.nn.Embedding(7, 3)
        assert model.get_input_embeddings() is getattr(getattr(model, trunk), layer)
        assert model.get_output_embeddings() is model.lm_head
        model.set_input_embeddings(new)
        model.set_output_embeddings(head := torch.nn.Linear(3, 7))
        assert getattr(getattr(model, trunk), layer) is new and model.lm_head is head


@row("5.4.59", pt="Y")
@row("5.4.85", pt="Y")
@row("5.4.93", pt="Y")
def trifles_of_a_model(backend: Backend, folder: Path) -> None:
    model = bert(backend)
    assert model.dummy_inputs["input_ids"].shape == (3, 5)
    half = model.get_memory_footprint(return_buffers=False)
    assert model.half().get_memory_footprint(return_buffers=False) * 2 == half
    model.warn_if_padding_and_no_attention_mask(model.dummy_inputs["input_ids"], None)
    assert model.warnings_issued == {"padding": True}


# -- pytorch_utils ----------------------------------------------------------------------------------------------


@row("5.8.8", pt="Y")
def conv1d(backend: Backend, folder: Path) -> None:
    torch, theirs = torch_pieces()
    layer = theirs.Conv1D(6, 2)
    assert layer.weight.shape == (2, 6) and not layer.bias.any() and (layer.nf, layer.nx) == (6, 2)
    wide = theirs.Conv1D(300, 300)
    assert 0.019 < wide.weight.std() < 0.021
    x = torch.randn(4, 3, 2)
    assert_close(layer(x).detach(), (x @ layer.weight + layer.bias).detach())
    gpt2 = triptych.GPT2Model(triptych.GPT2Config(vocab_size=5, n_embd=4, n_layer=1, n_head=2, n_positions=8))
    assert isinstance(gpt2.h[0].attn.c_attn, theirs.Conv1D)


@row("5.8.9", pt="Y")
@row("5.8.10", "a pruned layer keeps dtype and device", pt="Y")
@row("5.8.11", "a pruned layer keeps dtype and device", pt="Y")
@row("5.8.12", pt="Y")
def pruned_layers(backend: Backend, folder: Path) -> None:
    torch, theirs = torch_pieces()
    heads, index = theirs.find_pruneable_heads_and_indices([2, 1], 3, 2, {1})
    assert heads == {2} and index.tolist() == [0, 1, 4, 5]  # three heads are left, of which 2 is the second
    linear = torch.nn.Linear(6, 6).double()
    rows = theirs.prune_linear_layer(linear, index)
    assert torch.equal(rows.weight, linear.weight[index]) and torch.equal(rows.bias, linear.bias[index])
    columns = theirs.prune_linear_layer(linear, index, dim=1)
    assert torch.equal(columns.weight, linear.weight[:, index]) and torch.equal(columns.bias, linear.bias)
    assert rows.weight.dtype is torch.float64 and rows.weight.requires_grad and rows.out_features == 4
    conv = theirs.Conv1D(6, 6)
    assert torch.equal(theirs.prune_conv1d_layer(conv, index).weight, conv.weight[:, index])
    assert torch.equal(theirs.prune_layer(conv, index, dim=0).weight, conv.weight[index])
    with pytest.raises(ValueError, match="Linear or Conv1D"):
        theirs.prune_layer(torch.nn.Conv1d(2, 2, 1), index)


@row("5.8.13", pt="Y")
def chunks(backend: Backend, folder: Path) -> None:
    torch, theirs = torch_pieces()
    sizes: list[int] = []

    def double(x: Any) -> Any:
        sizes.append(x.shape[1])
        return x * 2

    x = torch.randn(2, 6, 3)
    assert torch.equal(theirs.apply_chunking_to_forward(double, 2, 1, x), x * 2) and sizes == [2, 2, 2]
    assert torch.equal(theirs.apply_chunking_to_forward(double, 0, 1, x), x * 2) and sizes[-1] == 6
    for size, inputs in ((4, (x,)), (2, (x, x)), (2, ())):
        with pytest.raises(ValueError, match="chunks|takes"):
            theirs.apply_chunking_to_forward(double, size, 1, *inputs)


@row("5.8.14", pt="Y")
@row("5.8.15", pt="Y")
@row("5.8.16", pt="Y")
@row("5.8.17", pt="Y")
@row("5.8.18", pt="Y")
@row("5.8.19", pt="Y")
@row("5.8.20", pt="Y")
def functions_over_tensors(backend: Backend, folder: Path) -> None:
    torch, theirs = torch_pieces()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert theirs.id_tensor_storage(x) == theirs.id_tensor_storage(x[0]) != theirs.id_tensor_storage(x.clone())
    result, gradient = x.softmax(-1), torch.randn(2, 3, dtype=torch.float64)
    (expected,) = torch.autograd.grad(result, x, gradient)
    parent = type("Parent", (), {"dim": -1})
    assert_close(theirs.softmax_backward_data(parent, gradient, result, -1, x).detach(), expected.detach())
    rows, columns = theirs.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")
    assert rows.shape == (2, 3) and columns[0].tolist() == [0, 1, 2]
    assert theirs.isin_mps_friendly(torch.tensor([1, 2]), 2).tolist() == [False, True]
    assert torch.nn.LayerNorm in theirs.ALL_LAYERNORM_LAYERS and torch.device(theirs.infer_device())

    class Counted:
        calls = 0

        @theirs.compile_compatible_method_lru_cache(maxsize=2)
        def square(self, number: int) -> int:
            self.calls += 1
            return number**2

    one, other = Counted(), Counted()
    assert [one.square(3), one.square(3), other.square(3), one.calls, other.calls] == [9, 9, 9, 1, 1]
