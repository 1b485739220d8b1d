"""What an author of three frameworks writes for their CI: the classes, and a config that shows mistakes."""

from config import SprigConfig
from triptych_conformance.suite import ModelTests

CONFIG = SprigConfig(
    vocab_size=37,
    hidden_size=12,
    num_attention_heads=3,
    intermediate_size=20,
    hidden_act="quick_gelu",
    layer_norm_eps=0.02,
    max_position_embeddings=40,
    dropout=0.3,
)


def classes(stem):
    return {"pt": f"models_pt:{stem}", "tf": f"models_tf:TF{stem}", "flax": f"models_flax:Flax{stem}"}


OWN = {
    "declared": "its layers are its own",
    "heads": "no schema says where they are",
    "init_cache": "it says itself how it is called, with a cache of its own",
    "seeded_dropout": "its dropout is the frameworks'",
}


class TestSprigForCausalLM(ModelTests):
    models = classes("SprigForCausalLM")
    config = CONFIG
    lacks = OWN
    gaps = {"test_compiled_texts_are_those_of_a_loop[tf]": "its cache grows, which XLA cannot compile"}


class TestSprigModel(ModelTests):
    models = classes("SprigModel")
    config = CONFIG
    lacks = {
        **OWN,
        "generation": "it has no head",
        "loss": "it has no head",
        "ties": "it has no head",
    }
