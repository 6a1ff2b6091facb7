"""What every section of a preset is made of: strict keys, names, and names of models."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="letters, digits and _")]
UNGUIDED = "unguided"
# Names of files under results/PRESET/models, beside those of the guides, and of those under results/PRESET/judges.
DIFFUSION, EVALUATOR, CLASSIFIER = "diffusion", "evaluator", "classifier"
REFERENCE, DATASET = "reference", "dataset"
JUDGES = (EVALUATOR, CLASSIFIER, REFERENCE)
RESERVED = (UNGUIDED, DIFFUSION, EVALUATOR, CLASSIFIER, REFERENCE, DATASET)
LIBRARIES = ("timm", "torchvision")


def _known_model(model: str) -> str:
    """Check LIBRARY:NAME without importing the library, which would take seconds."""
    library, _, name = model.partition(":")
    if library == "user" and "." in name:
        return model
    if library not in LIBRARIES:
        raise ValueError(f"'{model}': write timm:NAME, torchvision:NAME or user:MODULE.FUNCTION")
    package = importlib.util.find_spec(library)
    assert package is not None and package.origin is not None
    entry = re.compile(rf"^def {re.escape(re.split('[./]', name)[0])}\(", re.MULTILINE)
    sources = (Path(package.origin).parent / "models").rglob("*.py")
    if not any(entry.search(source.read_text(encoding="utf-8")) for source in sources):
        raise ValueError(f"{library} has no model '{name}'")
    return model


ModelName = Annotated[str, AfterValidator(_known_model)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
