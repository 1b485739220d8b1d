"""How tests make huggingface_hub talk to the test hub, in this process and in others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from triptych_conformance.hub.server import Hub


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """Return the environment of a process that knows `hub` only, with caches under `home`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE", "TRANSFORMERS_OFFLINE"))}
    return kept | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }


def point_at(patch: pytest.MonkeyPatch, hub: Hub, home: Path) -> None:
    """Point the huggingface_hub of this process, which read its environment when it was imported, to `hub`."""
    from huggingface_hub import constants, hf_api

    for name in [k for k in os.environ if k.startswith(("HF_", "HUGGING_FACE"))]:
        patch.delenv(name)
    for name, setting in environment(hub, home).items():
        if os.environ.get(name) != setting:
            patch.setenv(name, setting)
    values: dict[str, object] = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_XET_CACHE": str(home / "xet"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    for name, value in values.items():
        patch.setattr(constants, name, value)
    patch.setattr(hf_api.api, "endpoint", hub.endpoint)


@contextmanager
def running(folder: Path) -> Iterator[Hub]:
    """Run a hub, whose store is below `folder`, and point the client of this process to it."""
    from huggingface_hub.utils import close_session

    hub = Hub(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        point_at(patch, hub, folder / "home")
        close_session()
        try:
            yield hub
        finally:
            close_session()
            hub.close()
