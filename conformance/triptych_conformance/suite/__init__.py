"""`ModelTests`: the tests that every model class passes, in each framework that it is written for.

    from triptych_conformance.suite import ModelTests

    class TestMyModel(ModelTests):
        models = {"pt": "my_models:MyModel", "tf": "my_models:TFMyModel", "flax": "my_models:FlaxMyModel"}
        config = MyConfig(hidden_size=12, num_hidden_layers=2)

in a file that pytest collects is all that an author writes. The pytest plugin of triptych makes a test of each method
for each framework, or pair of frameworks, and holds `gaps` and `lacks` to what they say.
"""

from __future__ import annotations

from triptych_conformance.suite.base import SubjectTests as SubjectTests
from triptych_conformance.suite.construction import ConstructionTests as ConstructionTests
from triptych_conformance.suite.files import FileTests as FileTests
from triptych_conformance.suite.forward import AgreementTests as AgreementTests
from triptych_conformance.suite.forward import ForwardTests as ForwardTests
from triptych_conformance.suite.generation import GenerationTests as GenerationTests
from triptych_conformance.suite.generation import GreedyTests as GreedyTests
from triptych_conformance.suite.objects import ObjectTests as ObjectTests
from triptych_conformance.suite.surgery import SurgeryTests as SurgeryTests
from triptych_conformance.suite.training import TrainingTests as TrainingTests


class ModelTests(ConstructionTests, ForwardTests, FileTests, ObjectTests, SurgeryTests, TrainingTests, GenerationTests):
    """All tests. Its attributes are those of `SubjectTests`."""
