"""Model cards: a new one, and tags for one that is there."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from triptych.hub.snapshot import Snapshot

logger = logging.getLogger(__name__)


def new_card(repo_id: str, tags: Iterable[str]) -> str:
    """Return the text of a model card for a repository that has none."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(library_name="triptych", tags=list(tags) or None).to_yaml()
    return f"""---
{data}
---

# {repo_id.rpartition("/")[2]}

Saved by triptych, for PyTorch, TensorFlow and Flax:

```python
from triptych import AutoModel  # or TFAutoModel, FlaxAutoModel

model = AutoModel.from_pretrained("{repo_id}")
```
"""


def tagged(there: Snapshot, name: str, tags: Iterable[str]) -> str | None:
    """Return the model card `name` of `there` with `tags` in its metadata; None if it has them all.

    A card whose metadata cannot be read is left as it is, which a warning says.
    """
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    text = (there.fetch([name], complete=False) / name).read_text(encoding="utf-8")
    try:
        card = ModelCard(text)
        data: Any = card.data
        old = data.tags or []
        new = list(dict.fromkeys([*([old] if isinstance(old, str) else old), *tags]))
    except (ValueError, TypeError, YAMLError) as error:
        logger.warning(
            "The metadata of the card of %s cannot be read: the tags were not added: %s", there.repo_id, error
        )
        return None
    if new == old:
        return None
    data.tags = new
    return str(card)


def trained_card(
    title: str, metadata: Mapping[str, object], trained_on: Sequence[str], history: Mapping[str, Sequence[float]]
) -> str:
    """Return the text of a card of a model that was trained.

    Args:
        metadata: of the card; what is None or empty is left out.
        trained_on: names of datasets.
        history: name of a loss or metric -> its value after each epoch.
    """
    from huggingface_hub import ModelCardData

    fields: dict[str, Any] = {name: value for name, value in metadata.items() if value}
    data = ModelCardData(library_name="triptych", **fields).to_yaml()
    parts = [f"---\n{data}\n---", f"# {title}"]
    if trained_on:
        parts.append("Trained on " + ", ".join(trained_on) + ".")
    if history:
        head = ["epoch", *history]
        rows = [[str(epoch), *(f"{value:.4g}" for value in values)]
                for epoch, values in enumerate(zip(*history.values(), strict=False), 1)]  # fmt: skip
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
        parts += ["## Training", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"
