"""Uploading a model folder to the Hugging Face hub, with its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dyme.errors import ConfigError, ModelError


def need_token() -> None:
    """Raise ConfigError if there is no hub token; does not use the network."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ConfigError("cannot push: HF_HUB_OFFLINE is set; unset it")
    if not get_token():
        raise ConfigError("cannot push: no token; run `hf auth login`, or set HF_TOKEN to one that may write")


def push(folder: Path, repository: str, private: bool = False) -> str:
    """Upload a model folder to a repository, created if it does not exist, and return its address.

    Raises ModelError in one line for a folder that no one else could use, or where the hub cannot be reached or refuses.
    """
    _check_base(folder)
    need_token()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    transport: Any = HfHubHTTPError.__bases__[0]  # the error of the HTTP library that this version of the hub's client uses
    api = HfApi()
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=made.repo_id, commit_message="Trained with dyme")
    except (HfHubHTTPError, HFValidationError, transport, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{repository}: cannot push: {reason}") from error
    return str(made)


def _check_base(folder: Path) -> None:
    """Raise ModelError for an adapter whose base other people cannot get."""
    settings = folder / "adapter_config.json"
    if not settings.exists():
        return
    base = json.loads(settings.read_text(encoding="utf-8"))["base_model_name_or_path"]
    if base == "embedded" or Path(base).exists():
        raise ModelError(f"{folder}: others do not have the adapter's base, {base}; merge it first: dyme export {folder} --out DIR")
