"""Twins of Sprig with one fault each, in one framework: a class of tests for each, most of whose tests pass."""

from pathlib import Path

import test_third_party as good
from triptych_conformance import suite

PREFIXES = {"models_pt": "pt", "models_tf": "tf", "models_flax": "flax"}
REFERENCES = {"pt": "flax", "tf": "pt", "flax": "pt"}


def tests_of(name):
    """Return tests of the twin that the module `name` holds, beside the good class of one other framework."""
    text = Path(__file__).with_name(f"{name}.py").read_text()
    framework = next(prefix for module, prefix in PREFIXES.items() if f"import {module}\n" in text)
    chosen = {framework, REFERENCES[framework]}
    models = {key: value for key, value in good.classes("SprigForCausalLM").items() if key in chosen}
    models[framework] = models[framework].replace(models[framework].partition(":")[0], name)
    values = {"models": models, "config": good.CONFIG, "lacks": good.TestSprigForCausalLM.lacks, "__module__": __name__}
    return type("Test" + "".join(word.capitalize() for word in name.split("_")), (suite.ModelTests,), values)


for file in sorted(Path(__file__).parent.glob("*.py")):
    if not file.stem.startswith("test_"):
        made = tests_of(file.stem)
        globals()[made.__name__] = made
del made
