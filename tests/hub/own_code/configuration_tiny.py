"""The config of the model whose code comes with its checkpoint, in tests/hub/test_remote_code.py."""

from triptych import PretrainedConfig


class TinyConfig(PretrainedConfig):
    model_type = "tiny-of-the-hub"

    def __init__(self, vocab_size: int = 11, hidden_size: int = 6, **kwargs: object) -> None:
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**kwargs)
