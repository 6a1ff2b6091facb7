"""Folders of the Hugging Face hub: downloads that are resumed and checked, of one revision."""

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
