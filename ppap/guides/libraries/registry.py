"""The registry of libraries: the library that LIBRARY:NAME in a preset names, and a network of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo, WithJsonSchema
from torch import nn

from ppap.guides.libraries.library import Library, Shape, building
from ppap.guides.libraries.timm_models import TimmModels
from ppap.guides.libraries.torchvision_models import TorchvisionModels
from ppap.guides.libraries.transformers_models import TransformersModels
from ppap.guides.libraries.user_models import UserModels
from ppap.utils.registry import Registry
from ppap.utils.settings import AsWritten, placed_folder

LIBRARIES: Registry[Library] = Registry(
    "library",
    {
        "timm": TimmModels(),
        "torchvision": TorchvisionModels(),
        "transformers": TransformersModels(),
        "user": UserModels(),
    },
)
_WRITTEN = [LIBRARIES.get(name).written for name in LIBRARIES]
WRITTEN: str = f"{', '.join(_WRITTEN[:-1])} or {_WRITTEN[-1]}"


def library_of(model: str) -> Library:
    """Look up the library of a model that a preset names."""
    return LIBRARIES.get(model.partition(":")[0])


def build_network(model: str, options: dict[str, Any], shape: Shape, folders: Sequence[Path] = ()) -> nn.Module:
    """Build the network named LIBRARY:NAME, with untrained weights.

    `options` go to the model's class, after channels and classes in the library's own words. The user's modules lie
    in `folders` (see `Preset.module_folders`); what they raise comes as it is. ConfigError if there is no such model,
    or it does not take these options.
    """
    library, name = library_of(model), model.partition(":")[2]
    if library.of_user:
        return library.build(name, shape, options, folders)
    with building(model):
        return library.build(name, shape, options, folders)


def _known_model(model: str, info: ValidationInfo) -> str:
    """Check LIBRARY:NAME without importing the library, which takes seconds."""
    name, _, rest = model.partition(":")
    if name not in LIBRARIES:
        raise ValueError(f"'{model}': write {WRITTEN}")
    library = LIBRARIES.get(name)
    if library.needs and importlib.util.find_spec(library.needs) is None:
        raise ValueError(f"'{model}' needs {library.needs}: pip install 'ppap[{library.needs}]'")
    if not library.knows(rest):
        raise ValueError(f"'{model}': write {library.written}")
    return model if library.one_file else placed_folder(rest, info, f"{name}:")


ModelName = Annotated[
    str,
    AfterValidator(_known_model),
    AsWritten,
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(LIBRARIES)}):"}),
]
