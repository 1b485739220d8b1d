"""`transformers.utils.hub`: files of repositories, and names of its caches."""

from __future__ import annotations

import os

from triptych.transformers4 import exports

HUGGINGFACE_CO_RESOLVE_ENDPOINT = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
HUGGINGFACE_CO_PREFIX = HUGGINGFACE_CO_RESOLVE_ENDPOINT + "/{model_id}/resolve/{revision}/{filename}"
TRANSFORMERS_DYNAMIC_MODULE_NAME = "triptych_remote"

exports(
    globals(),
    {
        "triptych.hub.files": """
            cached_file cached_files convert_file_size_to_int create_and_tag_model_card download_url
            extract_commit_hash get_checkpoint_shard_files get_file_from_repo=cached_file has_file
            is_offline_mode is_remote_url
        """,
        "triptych.hub.pushing": "PushToHubMixin",
        "huggingface_hub": "try_to_load_from_cache",
        "huggingface_hub.constants": """
            PYTORCH_PRETRAINED_BERT_CACHE=HF_HUB_CACHE PYTORCH_TRANSFORMERS_CACHE=HF_HUB_CACHE
            TRANSFORMERS_CACHE=HF_HUB_CACHE default_cache_path=HF_HUB_CACHE
        """,
        "huggingface_hub.errors": """
            EntryNotFoundError GatedRepoError LocalEntryNotFoundError RepositoryNotFoundError
            RevisionNotFoundError
        """,
    },
)
