"""Folders of the Hugging Face hub: downloads of one revision, which are resumed and checked, and uploads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppap.utils.errors import DataError, reason


def folder_of(name: str, cache: Path, settings: Sequence[str], formats: Sequence[Sequence[str]], what: str) -> Path:
    """Return the folder of NAME, or NAME@REVISION (a branch, a tag or a commit): `settings`, and weights in one format.

    `formats` are the files, or patterns of them, that hold weights in one format each; the first that is there is taken.
    A name that is a folder here is that folder. DataError, which calls it `what`, if it cannot be had.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download  # every job knows this module, and few load from the hub
    from huggingface_hub.errors import RevisionNotFoundError

    repository, _, revision = name.partition("@")
    try:
        for weights in formats:
            folder = Path(
                snapshot_download(
                    repository, revision=revision or None, cache_dir=cache, allow_patterns=[*settings, *weights]
                )
            )
            if any(any(folder.glob(file)) for file in weights):
                break
    except RevisionNotFoundError:
        raise DataError(f"{what}: the hub has no revision '{revision}' of it") from None
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{what} cannot be read ({reason(error)}). Without network: save its folder elsewhere, copy it here and "
            "name its path"
        ) from None
    return folder


def source_of(name: str, folder: Path) -> dict[str, str]:
    """Say where a folder came from; in the hub's cache, its name is the commit."""
    if folder == Path(name):
        return {"source": name}
    return {"source": name, "revision": folder.name}


def push(folder: Path, name: str, patterns: Sequence[str], private: bool | None = None) -> str:
    """Upload the files of a folder that match to the model repository NAME, made if it is not there; return its address.

    What matches there and is not in the folder is deleted. DataError if the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="ppap")
    try:
        repository = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=[*patterns], delete_patterns=[*patterns])
    except Exception as error:  # of the hub, of its transport, or of the file system
        raise DataError(f"{name}: cannot be pushed to the hub ({reason(error)}); `hf auth login` logs in") from None
    return str(repository)
