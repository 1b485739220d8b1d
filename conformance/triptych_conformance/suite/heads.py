"""What a head adds to a backbone: the tests that a class needs whose backbone passes all of them within another."""

from __future__ import annotations

from triptych_conformance.suite.construction import ConstructionTests
from triptych_conformance.suite.files import FileTests
from triptych_conformance.suite.forward import AgreementTests, ForwardTests
from triptych_conformance.suite.surgery import SurgeryTests
from triptych_conformance.suite.training import TrainingTests


class HeadTests(AgreementTests):
    """Of a class beside one of the same family that passes `ModelTests`: a third of these tests."""

    test_lacks = ConstructionTests.test_lacks
    test_class_names_its_config = ConstructionTests.test_class_names_its_config
    test_names_are_those_of_pytorch = ConstructionTests.test_names_are_those_of_pytorch
    test_new_weights_have_the_names_and_shapes_of_the_reference = (
        ConstructionTests.test_new_weights_have_the_names_and_shapes_of_the_reference
    )
    test_every_weight_of_the_live_model_is_declared = ConstructionTests.test_every_weight_of_the_live_model_is_declared
    test_padding_changes_nothing = ForwardTests.test_padding_changes_nothing
    test_rows_do_not_see_each_other = ForwardTests.test_rows_do_not_see_each_other
    test_labels_change_no_other_output = ForwardTests.test_labels_change_no_other_output
    test_low_precision_is_as_near_as_the_references = ForwardTests.test_low_precision_is_as_near_as_the_references
    test_conversions = FileTests.test_conversions
    test_base_and_head = FileTests.test_base_and_head
    test_missing_weight_is_refused = FileTests.test_missing_weight_is_refused
    test_resized_vocabularies_agree = SurgeryTests.test_resized_vocabularies_agree
    test_pruned_models_agree = SurgeryTests.test_pruned_models_agree
    test_pruned_heads_are_masked_heads = SurgeryTests.test_pruned_heads_are_masked_heads
    test_gradients_agree = TrainingTests.test_gradients_agree
    test_every_parameter_has_a_gradient = TrainingTests.test_every_parameter_has_a_gradient
