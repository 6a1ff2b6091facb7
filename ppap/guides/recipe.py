"""The recipe of a guide: all that makes it anew but its name and its weights, as a file beside its experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ppap.guides.guide import Guide
from ppap.guides.libraries.library import Library
from ppap.guides.libraries.registry import LIBRARIES, library_of
from ppap.guides.loading import load_guide, name_of
from ppap.guides.preprocessing import Interpolation
from ppap.guides.tasks.registry import TASKS
from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.settings import Count, said_of

RECIPE = "guide.json"


class GuideRecipe(BaseModel):
    """The arguments of `ppap.load_guide` beside the model's name; if it is `published` the library has its weights.

    None is what is not known of a guide that was made otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    published: bool
    task: str | None
    task_options: dict[str, Any]
    outputs: Count | None
    image_size: Count | None
    channels: Count
    options: dict[str, Any]
    input_size: Count
    mean: list[float]
    std: list[float]
    interpolation: Interpolation
    antialias: bool

    @classmethod
    def of(cls, guide: Guide) -> Self:
        """Write a guide's recipe."""
        data = getattr(guide.task, "data", None)
        options = {key: getattr(guide.task, key) for key in guide.task.takes} if guide.task else {}
        return cls(
            published=guide.published,
            task=None if guide.task is None else name_of(guide.task),
            task_options={key: value for key, value in options.items() if value is not None},
            outputs=getattr(data, guide.task.outputs, None) if guide.task and guide.task.outputs else None,
            image_size=getattr(data, "image_size", None) or None,
            channels=guide.channels,
            options=guide.options,
            input_size=guide.input_size,
            mean=guide.mean.flatten().tolist(),
            std=guide.std.flatten().tolist(),
            interpolation=guide.interpolation,
            antialias=guide.antialias,
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the recipe in a folder of experts; DataError if there is none."""
        path = folder / RECIPE
        if not path.exists():
            raise DataError(f"{folder}: has no {RECIPE}, which would make its guide; give the guide")
        try:
            return cls.model_validate(files.read_json(path), strict=True)
        except ValidationError as error:
            said = next(said_of(error.errors()[0]))
            raise DataError(f"{path}: is no recipe of a guide ({said})") from None

    def lacks(self, name: str) -> Literal["guide", "weights"] | None:
        """Say what of the guide of this name nobody can load who has the recipe alone."""
        library = _library(name)
        if library is None or library.of_user or self.task not in list(TASKS):
            return "guide"
        return None if self.published else "weights"

    def guide(self, name: str, weights: str | Path | None, downloads: str | Path) -> Guide:
        """Make the guide of this name, with its library's weights, or others of the library's format (`load_guide`)."""
        if weights is not None and not library_of(name).one_file:
            name, weights = f"{name.partition(':')[0]}:{weights}", None
        task = TASKS.get(str(self.task), options=self.task_options)
        arguments = self.model_dump(exclude={"published", "task", "task_options"})
        return load_guide(name, task, **arguments, weights=weights, folder=downloads)


def shared_name(model: str) -> str:
    """Return the name of a model that others may read: of a folder here no path, but what the model in it is called."""
    library, (prefix, _, name) = _library(model), model.partition(":")
    known = None if library is None else library.folder_name(name)
    return model if known is None else f"{prefix}:{known}"


def _library(model: str) -> Library | None:
    """Look up the library of a guide's model; None for a network of the user's own, by any name."""
    return next((LIBRARIES.get(known) for known in LIBRARIES if model.startswith(f"{known}:")), None)


def guide_for(folder: Path, name: str, weights: str | Path | None, downloads: str | Path) -> Guide:
    """Make the guide of this name, of which a folder of experts holds the recipe; no code of others is run.

    DataError if it is none of a library, or has weights of its own and none are given.
    """
    recipe = GuideRecipe.read(folder)
    lacks = recipe.lacks(name)
    if lacks == "guide":
        raise DataError(
            f"{folder}: its guide '{name}' is, or has a task that is, code of its maker's own; give the guide"
        )
    if lacks == "weights" and weights is None:
        raise DataError(
            f"{folder}: its guide '{name}' has weights of its own; give their file as weights, or the guide"
        )
    return recipe.guide(name, weights, downloads)
