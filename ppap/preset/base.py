"""The base of a preset's sections: strict keys, names, and names of models."""

from __future__ import annotations

import importlib.util
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Names become parts of file names, several of them in one.
Name = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=48, description="letters, digits and _")
]
# Whole numbers have bounds, so that no arithmetic on them ends in an overflow or in a list without end.
Count = Annotated[int, Field(gt=0, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
UNGUIDED = "unguided"
# Names of files under results/PRESET/models, beside those of the guides, and of those under results/PRESET/judges.
DIFFUSION, EVALUATOR, CLASSIFIER = "diffusion", "evaluator", "classifier"
REFERENCE, DATASET = "reference", "dataset"
JUDGES = (EVALUATOR, CLASSIFIER, REFERENCE)
RESERVED = (UNGUIDED, DIFFUSION, EVALUATOR, CLASSIFIER, REFERENCE, DATASET)
# Where a library keeps its models, and how it marks the function that builds one. torchvision's subfolders hold
# detectors, segmenters and the like; timm's helper functions stand unmarked among the others.
LIBRARIES = {
    "timm": ("**/*.py", re.compile(r"^@register_model\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)),
    "torchvision": (
        "*.py",
        re.compile(
            r"^@register_model\([^)]*\)\n(?:@handle_legacy_interface\((?:.*\n)*?(?:.*\))?\n)?def (\w+)\(",
            re.MULTILINE,
        ),
    ),
}


@lru_cache
def classifiers(library: str) -> frozenset[str]:
    """The classifiers that a library builds, read from its sources: to import it would take seconds."""
    package = importlib.util.find_spec(library)
    assert package is not None and package.origin is not None
    where, marked = LIBRARIES[library]
    sources = (Path(package.origin).parent / "models").glob(where)
    return frozenset(
        name for path in sources for name in marked.findall(path.read_text(encoding="utf-8"))
    )


def _known_model(model: str) -> str:
    """Check LIBRARY:NAME without importing the library."""
    library, _, name = model.partition(":")
    if library == "user" and "." in name:
        return model
    if library not in LIBRARIES:
        raise ValueError(f"'{model}': write timm:NAME, torchvision:NAME or user:MODULE.FUNCTION")
    if re.split("[./]", name)[0] not in classifiers(library):
        raise ValueError(f"{library} has no model '{name}' that classifies images")
    return model


ModelName = Annotated[str, AfterValidator(_known_model)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
