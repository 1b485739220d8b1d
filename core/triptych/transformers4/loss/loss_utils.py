"""The losses by a class's name, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_pt.authors.losses": """
            LOSS_MAPPING ForCausalLMLoss ForMaskedLMLoss ForQuestionAnsweringLoss ForSequenceClassificationLoss
            ForTokenClassification fixed_cross_entropy
        """
    },
)
