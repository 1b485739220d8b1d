"""The model files of others that `accept_author_files.py` tries: where each is from, a small config, and inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

TRANSFORMERS = ("transformers==4.48.3", "tokenizers==0.21.0", "huggingface_hub==0.30.2", "tf_keras==2.21.0")
HELPERS = ("einops==0.8.2",)
"""What the files import beside a framework and transformers."""

PACKAGES = {
    "antiberty": "1.0.0",
    "chronos-forecasting": "2.3.2",
    "enformer-pytorch": "0.8.12",
    "fastcoref": "2.1.6",
    "flagembedding": "1.4.2",
    "granite-tsfm": "0.3.11",
    "multilingual-clip": "1.0.10",
    "relik": "1.0.7",
    "simpletransformers": "0.70.8",
}

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A class of a file.

    - `package`: on the package index; "transformers" for one of its own model files.
    - `files`: what of the package is copied, as paths or patterns; its `__init__.py` files are not, as they import all.
    - `module`, `name`: the class.
    - `config`: (module of the class, library, folder of a small BERT that is loaded) -> config.
    - `inputs`: numpy arrays by argument; `call` passes them to the model where it is not `model(**inputs)`.
    - `absent`: packages that the file imports and the case does not use.
    - `prunes`, `resizes`: whether a head is pruned, and tokens are added; where the original can do it.
    - `checkpoints`: False where the original itself does not train with gradient checkpointing.
    - `formats`: those in which the original can be saved; by default all of its framework.
    """

    package: str
    files: tuple[str, ...]
    module: str
    name: str
    config: Callable[[ModuleType, ModuleType, Path], Any]
    inputs: Callable[[], Inputs]
    framework: str = "pt"
    call: Callable[[Any, Inputs], Any] = lambda model, inputs: model(**inputs)
    absent: tuple[str, ...] = ()
    prunes: bool = False
    resizes: bool = False
    formats: tuple[str, ...] = ()
    checkpoints: bool = True


def ids(*shape: int, low: int = 1, high: int = 31) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, shape).astype(np.int32)


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def text() -> Inputs:
    return {"input_ids": ids(2, 5), "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)}


def tokens() -> Inputs:
    return {"input_ids": ids(2, 5)}


BERT = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=16,
            max_position_embeddings=32, num_labels=3)  # fmt: skip
T5 = dict(vocab_size=31, pad_token_id=0, decoder_start_token_id=0, d_model=12, d_kv=4, d_ff=16, num_layers=2,
          num_decoder_layers=2, num_heads=3)  # fmt: skip
QUANTILES = [0.1, 0.5, 0.9]
COREF = {"max_span_length": 3, "top_lambda": 0.5, "ffnn_size": 8, "dropout_prob": 0.1, "max_segment_len": 8}
PATCHES = {"context_length": 16, "input_patch_size": 4, "input_patch_stride": 4, "quantiles": QUANTILES}


def bert(module: ModuleType, library: ModuleType, base: Path) -> Any:
    return library.BertConfig(**BERT)


def of(name: str, **fields: Any) -> Callable[[ModuleType, ModuleType, Path], Any]:
    """Return what makes the config `name`, of the file's module or of the library."""

    def config(module: ModuleType, library: ModuleType, base: Path) -> Any:
        return (getattr(module, name, None) or getattr(library, name))(**fields)

    return config


def theirs(family: str, framework: str, name: str, config: str, inputs: Callable[[], Inputs], fields: dict[str, Any],
           **more: Any) -> Case:  # fmt: skip
    """Return a case of transformers' own files."""
    prefix = {"pt": "", "tf": "tf_", "flax": "flax_"}[framework]
    files = (f"configuration_{family}.py", f"modeling_{prefix}{family}.py")
    module = f"{family}.modeling_{prefix}{family}"
    return Case("transformers", files, module, name, of(config, **fields), inputs, framework, **more)


def of_tokenizer(model: Any, inputs: Inputs) -> Any:
    import torch

    def tokenizer(texts: Any, **_: Any) -> Any:
        return {name: torch.as_tensor(value) for name, value in inputs.items()}

    return model(["some", "texts"], tokenizer)


def of_batch(model: Any, inputs: Inputs) -> Any:
    batch = {"input_ids": inputs["input_ids"][None], "attention_mask": inputs["attention_mask"][None]}
    return model({**batch, "leftovers": {"input_ids": [], "attention_mask": []}}, return_all_outputs=True)


def fastcoref(file: str, name: str) -> Case:
    files = (f"fastcoref/coref_models/{file}.py", "fastcoref/utilities/util.py", "fastcoref/utilities/consts.py")
    config = of("BertConfig", **BERT, coref_head=COREF)
    return Case("fastcoref", files, f"fastcoref.coref_models.{file}", name, config, text, call=of_batch,
                prunes=True, resizes=True)  # fmt: skip


def simple(path: str, name: str, config: Callable[..., Any], **more: Any) -> Case:
    files = (f"simpletransformers/{path}.py",)
    module = f"simpletransformers.{path.replace('/', '.')}"
    return Case("simpletransformers", files, module, name, config, text, **{"prunes": True, "resizes": True, **more})


def series() -> Inputs:
    return {"context": values(2, 16)}


PANDAS = ("pandas", "pandas.api", "pandas.api.types")
CHRONOS = ("chronos/chronos_bolt.py", "chronos/base.py", "chronos/utils.py", "chronos/df_utils.py",
           "chronos/chronos2/*.py")  # fmt: skip
MINICPM = dict(vocab_size=31, hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=3,
               num_key_value_heads=3, max_position_embeddings=32, start_layer=1, head_multi=True, head_type="simple",
               dim_model_base=12)  # fmt: skip
RELIK = dict(additional_special_symbols=3, linears_hidden_size=8, activation="gelu")

CASES = {
    "antiberty": Case(
        "antiberty", ("antiberty/model/AntiBERTy.py", "antiberty/utils/general.py"), "antiberty.model.AntiBERTy",
        "AntiBERTy", bert, text, prunes=True, resizes=True,
    ),
    "chronos-bolt": Case(
        "chronos-forecasting", CHRONOS, "chronos.chronos_bolt", "ChronosBoltModelForForecasting",
        of("T5Config", **T5, chronos_config={**PATCHES, "prediction_length": 4, "use_reg_token": True}), series,
        absent=PANDAS,
    ),
    "chronos-2": Case(
        "chronos-forecasting", CHRONOS, "chronos.chronos2.model", "Chronos2Model",
        of("Chronos2CoreConfig", d_model=12, d_kv=4, d_ff=16, num_layers=2, num_heads=3,
           chronos_config={**PATCHES, "output_patch_size": 4, "use_reg_token": True}), series, absent=PANDAS,
    ),
    "enformer": Case(
        "enformer-pytorch", ("enformer_pytorch/*.py", "enformer_pytorch/precomputed/*"),
        "enformer_pytorch.modeling_enformer", "Enformer",
        of("EnformerConfig", dim=24, depth=1, heads=2, output_heads={"human": 5}, target_length=2, attn_dim_key=4,
           num_downsamples=3, dim_divisible_by=4), lambda: {"x": values(1, 64, 4)}, absent=("polars", "pyfaidx"),
        formats=("bin",),
    ),
    "fastcoref": fastcoref("modeling_fcoref", "FCorefModel"),
    "minicpm-reranker": Case(
        "flagembedding",
        ("FlagEmbedding/inference/reranker/decoder_only/models/*minicpm*.py",
         "FlagEmbedding/utils/transformers_compat.py"),
        "FlagEmbedding.inference.reranker.decoder_only.models.modeling_minicpm_reranker",
        "LayerWiseMiniCPMForCausalLM", of("LayerWiseMiniCPMConfig", **MINICPM), text, resizes=True,
    ),
    "flowstate": Case(
        "granite-tsfm", ("tsfm_public/models/flowstate/*.py", "tsfm_public/models/flowstate/utils/*.py"),
        "tsfm_public.models.flowstate.modeling_flowstate", "FlowStateForPrediction",
        of("FlowStateConfig", context_length=16, embedding_feature_dim=8, encoder_num_layers=2, encoder_state_dim=8,
           encoder_num_hippo_blocks=2, decoder_patch_len=4, decoder_dim=8, prediction_length=4),
        lambda: {"past_values": values(2, 16, 1)},
    ),
    "multilingual-clip": Case(
        "multilingual-clip", ("multilingual_clip/Config_MCLIP.py", "multilingual_clip/pt_multilingual_clip.py"),
        "multilingual_clip.pt_multilingual_clip", "MultilingualCLIP",
        lambda module, library, base: module.Config_MCLIP.MCLIPConfig(str(base), BERT["hidden_size"], 5), text,
        call=of_tokenizer,
    ),
    "relik-retriever": Case(
        "relik", ("relik/retriever/pytorch_modules/hf.py",), "relik.retriever.pytorch_modules.hf",
        "GoldenRetrieverModel", of("GoldenRetrieverConfig", **BERT), text, prunes=True, resizes=True,
    ),
    "relik-reader": Case(
        "relik", ("relik/reader/pytorch_modules/hf/*relik.py",), "relik.reader.pytorch_modules.hf.modeling_relik",
        "RelikReaderSpanModel",
        lambda module, library, base: module.RelikReaderConfig(transformer_model=str(base), **RELIK),
        lambda: {**text(), "prediction_mask": np.zeros((2, 5), np.int32),
                 "special_symbols_mask": np.array([[0, 0, 0, 1, 1]] * 2, np.int32)},
    ),
    "simple-bert": simple("classification/transformer_models/bert_model", "BertForSequenceClassification", bert),
    "simple-distilbert": simple(
        "classification/transformer_models/distilbert_model", "DistilBertForSequenceClassification",
        of("DistilBertConfig", vocab_size=31, dim=12, n_layers=2, n_heads=3, hidden_dim=16, max_position_embeddings=32),
    ),
    "simple-gpt2": simple(
        "language_representation/transformer_models/gpt2_model", "GPT2ForTextRepresentation",
        of("GPT2Config", vocab_size=31, n_embd=12, n_layer=2, n_head=3, n_positions=32), prunes=False, resizes=False,
        checkpoints=False,  # it takes its states from behind a cache, which such a call does not make
    ),
    "albert": theirs(
        "albert", "pt", "AlbertForMaskedLM", "AlbertConfig", text, {**BERT, "embedding_size": 8}, prunes=True,
        resizes=True,
    ),
    "deberta-v2": theirs(
        "deberta_v2", "pt", "DebertaV2ForMaskedLM", "DebertaV2Config", text,
        {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4}, resizes=True,
    ),
    "convbert": theirs(
        "convbert", "pt", "ConvBertForMaskedLM", "ConvBertConfig", text,
        {**BERT, "num_attention_heads": 4, "head_ratio": 2, "conv_kernel_size": 3, "embedding_size": 8}, prunes=False,
        resizes=True,
    ),
    "flax-roberta": theirs(
        "roberta", "flax", "FlaxRobertaForMaskedLM", "RobertaConfig", text, {**BERT, "pad_token_id": 0}
    ),
    "flax-gpt-neo": theirs(
        "gpt_neo", "flax", "FlaxGPTNeoForCausalLM", "GPTNeoConfig", text,
        dict(vocab_size=31, hidden_size=12, num_layers=2, num_heads=3, intermediate_size=16,
             max_position_embeddings=32, attention_types=[[["global", "local"], 1]], window_size=4),
    ),
    "flax-resnet": theirs(
        "resnet", "flax", "FlaxResNetForImageClassification", "ResNetConfig",
        lambda: {"pixel_values": values(2, 3, 32, 32)},
        dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], num_labels=3),
    ),
    "flax-vit": theirs(
        "vit", "flax", "FlaxViTForImageClassification", "ViTConfig", lambda: {"pixel_values": values(2, 3, 8, 8)},
        dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=16, image_size=8,
             patch_size=4, num_labels=3),
    ),
    "tf-mobilebert": theirs(
        "mobilebert", "tf", "TFMobileBertForMaskedLM", "MobileBertConfig", text,
        {**BERT, "embedding_size": 6, "true_hidden_size": 9, "intra_bottleneck_size": 9, "num_feedforward_networks": 2},
    ),
    "tf-funnel": theirs(
        "funnel", "tf", "TFFunnelForTokenClassification", "FunnelConfig", text,
        dict(vocab_size=31, block_sizes=[1, 1], num_decoder_layers=1, d_model=12, n_head=3, d_head=4, d_inner=16,
             num_labels=3), resizes=True,
    ),
}  # fmt: skip
