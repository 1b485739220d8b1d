"""Names and paths that others give: which stay in their folder, on every system."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from triptych.errors import ArgumentError, MissingFileError, UnsafeCheckpointError, UnsupportedFormatError
from triptych.files.regular import unreadable

CONFIG_NAME = "config.json"
GENERATION_CONFIG_NAME = "generation_config.json"
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789")}
"""What Windows opens as devices, in any folder and with any suffix."""


def path_of(value: object, argument: str, of: str = "file") -> Path:
    """Return `value` as a path.

    Raises:
        ArgumentError: it is none; the message names the argument.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ArgumentError(
            f"{argument} is no path.", expected=f"the path of a {of}", received=repr(value)[:80], remedy=f"pass a {of}"
        )
    return Path(value)


def local_folder(path: object, subfolder: str = "") -> Path:
    """Return `path`/`subfolder` as an existing folder.

    Raises:
        ArgumentError: not a path, or a subfolder that leads out. MissingFileError: no such folder.
        UnsupportedFormatError: a checkpoint of TensorFlow 1.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ArgumentError(
            "pretrained_model_name_or_path is no path.",
            expected="the path of a folder",
            received=repr(path),
            remedy="pass a folder that holds config.json and the weights",
        )
    check_subfolder(subfolder)
    folder = Path(path) / subfolder
    if not os.path.isdir(folder):  # unlike Path's, False for a name that the system refuses
        if os.fspath(path).startswith(("http://", "https://")):
            raise ArgumentError(
                "A model is not loaded from a URL.",
                expected="a folder, or the name of a repository of the Hub",
                received=os.fspath(path)[:120],
                remedy="name the repository, org/name, or download the files into a folder",
            )
        if os.fspath(path).endswith((".ckpt", ".ckpt.index")):
            raise tensorflow_1(os.fspath(path))
        raise MissingFileError(
            f"{folder} is no folder.",
            expected="a local folder with a checkpoint, or a repository of the Hub",
            received=repr(str(path)),
            remedy="check the path; a repository of the Hub is named name or org/name",
        )
    return folder


def tensorflow_1(path: str) -> UnsupportedFormatError:
    """Return the error for weights in a format that TensorFlow 1 wrote."""
    return UnsupportedFormatError(
        f"{path} is a checkpoint of TensorFlow 1, which is not read.",
        expected="safetensors, .bin, .h5 or .msgpack",
        remedy="convert it: from_pretrained(path, from_tf=True) of transformers 4, and then save_pretrained",
    )


def check_subfolder(subfolder: object) -> None:
    """Raise `ArgumentError` unless `subfolder` is "" or a relative path that stays inside."""
    inside = isinstance(subfolder, str) and all(is_plain(part) for part in subfolder.split("/"))
    if subfolder != "" and not inside:
        raise ArgumentError("subfolder leads out of its folder.", expected="a relative path", received=repr(subfolder))


def is_plain(name: str) -> bool:
    """Return whether `name` is one component under POSIX and Windows rules alike, on every system."""
    windows = PureWindowsPath(name)
    plain = bool(name) and "/" not in name and "\\" not in name and "\0" not in name and name not in (".", "..")
    return plain and not windows.drive and not windows.root and ":" not in name and _is_short(name)


def _is_short(name: str) -> bool:
    """Return whether `name` can be that of a file: text, of 255 bytes at most, and no device of Windows."""
    if name.partition(".")[0].rstrip(" ").upper() in _DEVICES:
        return False
    return len(name.encode("utf-8", "surrogatepass")) < 256 and not any("\ud800" <= char <= "\udfff" for char in name)


def safe_name(name: object, named_by: Path, suffixes: tuple[str, ...]) -> str:
    """Return `name` if it is a plain file name with one of `suffixes`; raise `UnsafeCheckpointError` otherwise."""
    if not isinstance(name, str) or not is_plain(name) or not name.endswith(suffixes):
        raise UnsafeCheckpointError(
            f"{named_by} names a file that must not be opened.",
            expected=f"a plain file name ending in {' or '.join(suffixes)}",
            received=repr(name)[:120],
            remedy="do not use this checkpoint, unless you can mend its index",
        )
    return name


def is_inside(name: str) -> bool:
    """Return whether `name`, of parts joined by /, stays in its folder, under POSIX and Windows rules alike."""
    plain = "\\" not in name and "\0" not in name and ":" not in name and not PureWindowsPath(name).root
    return plain and all(part not in ("", ".", "..") and _is_short(part) for part in name.split("/"))


def check_inside(folder: Path, file: Path) -> None:
    """Raise `UnsafeCheckpointError` if `file` is a link out of `folder`; the blobs of a hub cache are inside."""
    real, home = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    allowed = [home]
    if "snapshots" in home.parts:
        cut = len(home.parts) - 1 - home.parts[::-1].index("snapshots")
        allowed.append(Path(*home.parts[:cut], "blobs"))
        shared = Path(*home.parts[: cut - 1], "blobs")  # of all repositories, since huggingface_hub 2
        allowed += [shared] if (shared / ".huggingface-shared-blobs").is_file() else []
    if not any(parent in real.parents for parent in allowed):
        raise UnsafeCheckpointError(
            f"{file} is a link that leaves its folder.",
            expected=f"a file inside {home}",
            received=str(real),
            remedy="copy the file into the folder, or load from the folder that it leads to",
        )


def regular_inside(folder: Path, name: str) -> Path | None:
    """Return the file `name` of `folder`; None if there is none.

    Raises:
        UnsafeCheckpointError: it is a link out of the folder. UnsupportedFormatError: it is no regular file.
        UnreadableFileError: the system says neither.
    """
    file = folder / name
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as cause:
        raise unreadable(file, "read", cause) from cause
    check_inside(folder, file)
    if not os.path.isfile(file):
        kind = "a folder" if os.path.isdir(file) else "a link to nothing" if file.is_symlink() else "another kind"
        raise UnsupportedFormatError(
            f"{file} cannot be read.", expected="a regular file", received=kind, remedy="remove it, or give its content"
        )
    return file
