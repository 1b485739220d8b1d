"""Every error that triptych raises on purpose, under one root.

Messages have one shape: what was expected, what was received, and the remedy. Where users of transformers catch
`OSError`, `ValueError` or `ImportError`, the triptych error is one of those too.
"""

from __future__ import annotations


class TriptychError(Exception):
    """Root of the tree. `str(error)` holds what was expected, what was received and the remedy."""

    def __init__(self, detail: str, *, expected: str = "", received: str = "", remedy: str = "") -> None:
        self.detail = detail
        self.expected = expected
        self.received = received
        self.remedy = remedy
        parts = [detail]
        parts += [f"Expected: {expected}."] if expected else []
        parts += [f"Received: {received}."] if received else []
        parts += [f"Remedy: {remedy}."] if remedy else []
        super().__init__(" ".join(parts))


class ArgumentError(TriptychError, ValueError):
    """An argument of a call has a wrong type or value."""


class DispatchedModelError(ArgumentError, RuntimeError):
    """A model whose weights are on several devices, or on the disk, cannot do this."""


class ConfigError(TriptychError, ValueError):
    """A configuration is unreadable, or a field of it has an impossible value."""


class UnreadableConfigError(ConfigError, OSError):
    """The file of a configuration is not JSON as it should be."""


class MissingBackendError(TriptychError, ImportError):
    """The framework that a class needs is not installed."""


class MissingNameError(TriptychError, ModuleNotFoundError):
    """A module or a name of transformers that triptych does not have."""


class MissingMethodError(TriptychError, NotImplementedError):
    """A method of the base classes of transformers that triptych does not have."""


class MissingFileError(TriptychError, FileNotFoundError):
    """A file that the checkpoint needs is not there."""


class CheckpointError(TriptychError, ValueError):
    """The weights of a checkpoint do not fit the model."""


class ShapeMismatchError(CheckpointError):
    """A weight of the checkpoint has another shape than the model."""


class IncompatibleWeightsError(CheckpointError, RuntimeError):
    """Files and module have not the same weights, and `strict` says that they must."""


class CorruptCheckpointError(TriptychError, ValueError):
    """A file is not what its format prescribes."""


class TruncatedCheckpointError(CorruptCheckpointError):
    """A file ends before its own header says it should."""


class InconsistentCheckpointError(CorruptCheckpointError):
    """The files of one checkpoint contradict each other."""


class IntegrityError(CorruptCheckpointError):
    """A file or a tensor is not the one that a manifest or a pinned digest says."""


class ChangedFileError(InconsistentCheckpointError):
    """A file was replaced or written to between its opening and the reading of its tensors."""


class UnsafeCheckpointError(TriptychError, ValueError):
    """A file asks for something that reading weights must never do."""


class RemoteCodeError(TriptychError, ValueError):
    """A checkpoint brings code along that is not trusted, or that does not work."""


class LimitError(TriptychError, ValueError):
    """A file declares more than the limits allow."""


class UnsupportedFormatError(TriptychError, ValueError):
    """A file, dtype or layout that triptych does not read or write."""


class UnreadableFileError(UnsupportedFormatError, OSError):
    """The system refuses to read a file or a folder; `errno` is its reason."""


class SaveError(TriptychError, OSError):
    """A save could not be completed; the checkpoint that was there before still is."""


class HubError(TriptychError, OSError):
    """The Hub could not serve a file, or served another one."""


class HubNotFoundError(HubError):
    """There is no such repository or revision, or it is private."""


class HubAccessError(HubError):
    """The repository is gated, or the token may not do this."""


class HubOfflineError(HubError):
    """The Hub cannot be reached, or shall not be, and the cache does not have the files."""
