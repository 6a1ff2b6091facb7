"""Experts as a folder: a safetensors file for each, the recipe of their guide, and a card that says what they are."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from ppap.data import hub
from ppap.experts.card import card
from ppap.experts.expert import Expert, read_expert
from ppap.guides.recipe import RECIPE, GuideRecipe
from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.files import Writer

CARD = "README.md"
_EXPERTS = "expert_*.safetensors"
_HUB_NAME = r"[\w.-]+/[\w.-]+(@\S+)?"


def write_experts(experts: Sequence[Expert], folder: Path, recipe: GuideRecipe) -> None:
    """Write all experts of a guide, its recipe and the card, or nothing.

    DataError if the folder holds experts that would be left over.
    """
    names = [f"expert_{number}.safetensors" for number in range(1, len(experts) + 1)]
    left = sorted({path.name for path in folder.glob(_EXPERTS)} - {*names})
    if left:
        raise DataError(f"{folder / left[0]}: is of a larger bank; give an empty folder")
    writers: dict[Path, Writer] = {
        folder / name: files.tensors_writer(expert.tensors(), expert.header.metadata())
        for name, expert in zip(names, experts, strict=True)
    }
    texts = {RECIPE: files.json_text(recipe.model_dump()), CARD: card(experts, names, recipe)}
    files.write_all(writers | {folder / name: files.bytes_writer(text.encode()) for name, text in texts.items()})


def write_card(folder: Path) -> Path:
    """Write the card of a folder of experts anew, and return its path; DataError if the folder is not whole."""
    experts = read_experts(folder)
    text = card(experts, [expert.path.name for expert in experts], GuideRecipe.read(folder))
    files.write_text(folder / CARD, text)
    return folder / CARD


def push_experts(folder: Path, name: str, private: bool | None = None) -> str:
    """Upload a folder of experts to the hub, and nothing else that lies there; return the repository's address.

    DataError if the folder is not whole, or the hub cannot be reached, or refuses.
    """
    read_experts(folder)
    GuideRecipe.read(folder)
    if not (folder / CARD).is_file():
        raise DataError(f"{folder / CARD}: no such file; `ppap experts card` writes it")
    return hub.push(folder, name, (_EXPERTS, RECIPE, CARD), private)


def folder_of(name: str | Path, downloads: str | Path) -> Path:
    """Return the folder of experts of this name: one here, or USER/NAME or USER/NAME@REVISION of the hub, downloaded.

    DataError if it cannot be had.
    """
    if Path(name).is_dir() or not re.fullmatch(_HUB_NAME, str(name)):
        return Path(name)
    return hub.folder_of(
        str(name), Path(downloads) / "huggingface", (RECIPE, CARD), ((_EXPERTS,),), f"experts '{name}'"
    )


def read_experts(folder: Path) -> list[Expert]:
    """Read the experts of a folder, from the least noise to the most; DataError unless they own each timestep once."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    experts = sorted(map(read_expert, folder.glob(_EXPERTS)), key=lambda e: e.timesteps.start)
    if not experts:
        raise DataError(f"{folder}: has no experts ({_EXPERTS})")
    for one, other in itertools.pairwise(experts):
        if one.timesteps.stop != other.timesteps.start:
            raise DataError(
                f"{other.path}: begins at timestep {other.timesteps.start}, the expert before it ends at "
                f"{one.timesteps.stop}"
            )
        if _made_for(one) != _made_for(other):
            raise DataError(f"{other.path}: is of another bank than {one.path}")
    first, last = experts[0], experts[-1]
    if first.timesteps.start or last.timesteps.stop != last.header.timesteps:
        raise DataError(
            f"{folder}: its experts own timesteps {first.timesteps.start} to {last.timesteps.stop}, not 0 to "
            f"{last.header.timesteps}; some are missing"
        )
    return experts


def _made_for(expert: Expert) -> tuple[object, ...]:
    about = expert.header
    noise = about.timesteps, about.noise_schedule, about.sees, about.predicts
    return about.guide, about.guide_sha256, about.guide_state, *noise, about.view, about.latents
