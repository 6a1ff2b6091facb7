"""Parts of every section of a preset: strict keys, names, numbers in bounds, and keys that are free."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

# Names become parts of file names, several of them in one.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=48)]
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

FREE: JsonDict = {"free": True}
"""Marks a field (`json_schema_extra=FREE`) that says how or where jobs run, never what they make.

Another value of it makes no job stale.
"""


class Section(BaseModel):
    """A part of a preset. Every field has a description: it is the key's explanation in config/README.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def is_free(field: FieldInfo) -> bool:
    return field.json_schema_extra == FREE


def holds_section(annotation: Any) -> bool:
    """Say whether a field of this type holds a section, if it holds anything."""
    parts = get_args(annotation) or (annotation,)
    return any(
        (isinstance(part, type) and issubclass(part, Section)) or (part is not annotation and holds_section(part))
        for part in parts
    )


def keys_of(kind: type[Section], prefix: str, *but: str) -> list[str]:
    """List the keys of a section that decide what is computed: its fields that are neither sections nor free.

    `prefix` is the section's own key; fields named in `but` are left out.
    """
    return [
        f"{prefix}.{name}"
        for name, field in kind.model_fields.items()
        if not is_free(field) and not holds_section(field.annotation) and name not in but
    ]
