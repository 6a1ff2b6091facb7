"""Parts of every section of a preset: strict keys, names, and numbers in bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Names become parts of file names, several of them in one.
Name = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=48, description="letters, digits and _")
]
# Whole numbers have bounds, so that no arithmetic on them ends in an overflow or in a list without end.
Count = Annotated[int, Field(gt=0, le=1_000_000_000)]
Scale = Annotated[float, Field(ge=0, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
UNGUIDED = "unguided"
# Names of files under results/PRESET/models, beside those of the guides, and of those under results/PRESET/judges.
DIFFUSION, EVALUATOR, CLASSIFIER = "diffusion", "evaluator", "classifier"
REFERENCE, DATASET = "reference", "dataset"
# Names of tasks.
CLASSIFICATION, DEPTH, SEGMENTATION = "classification", "depth", "segmentation"
JUDGES = (EVALUATOR, CLASSIFIER, REFERENCE)
RESERVED = (UNGUIDED, DIFFUSION, EVALUATOR, CLASSIFIER, REFERENCE, DATASET)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
