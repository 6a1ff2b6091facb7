"""Parts of every section of a preset: strict keys, names, numbers in bounds, and keys that are free."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, ValidationInfo
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from ppap.utils.errors import ConfigError

# Names become parts of file names, several of them in one.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=48)]
# Whole numbers have bounds, so that no arithmetic on them ends in an overflow or in a list without end.
Count = Annotated[int, Field(gt=0, le=1_000_000_000)]
Scale = Annotated[float, Field(ge=0, le=10_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
UNGUIDED = "unguided"
# Names of files under results/PRESET/models, beside those of the guides, and of those under results/PRESET/judges.
DIFFUSION, EVALUATOR, CLASSIFIER = "diffusion", "evaluator", "classifier"
REFERENCE, DATASET = "reference", "dataset"
AUTOENCODER = "autoencoder"
# Names of tasks.
CLASSIFICATION, DEPTH, SEGMENTATION = "classification", "depth", "segmentation"
EMBEDDING, SCORE = "embedding", "score"
JUDGES = (EVALUATOR, CLASSIFIER, REFERENCE)
RESERVED = (UNGUIDED, DIFFUSION, AUTOENCODER, EVALUATOR, CLASSIFIER, REFERENCE, DATASET)

FREE: JsonDict = {"free": True}
"""Marks a field (`json_schema_extra=FREE`) that says how or where jobs run, never what they make.

Another value of it makes no job stale.
"""

FOLDER = "folder"
"""The folder of a preset's file, in the context of its validation; the working folder if it is not given."""


class PlacedPath(str):
    """A path that a preset names, found from the preset's folder; `written` is what the preset says."""

    written: str


def placed(path: str, info: ValidationInfo) -> PlacedPath:
    """Find a path from the preset's folder; what is below the working folder is named from there."""
    folder = Path((info.context or {}).get(FOLDER) or "").resolve()
    whole, here = Path(os.path.normpath(folder / path)), Path.cwd()
    below = whole.is_relative_to(here) and not Path(path).is_absolute()
    known = PlacedPath(whole.relative_to(here) if below else whole)
    known.written = path
    return known


def placed_folder(name: str, info: ValidationInfo, prefix: str = "") -> str:
    """Find a folder like a path; what is not there, and begins with no dot or slash, is a name on the hub."""
    folder = placed(name, info)
    if not (name.startswith((".", "/")) or Path(folder).is_dir()):
        return prefix + name
    known = PlacedPath(prefix + folder)
    known.written = prefix + name
    return known


AsWritten = PlainSerializer(lambda path: getattr(path, "written", path), return_type=str)
"""Serialises a path as the preset has it, so that a copied preset has the same config hashes."""
LocalPath = Annotated[str, AfterValidator(placed), AsWritten]
HubOrFolder = Annotated[str, AfterValidator(placed_folder), AsWritten]


TAG = "kind="
"""The beginning of the tag of a kind of section, such as of evaluators; a user has not written it."""


def each_once(values: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Refuse a value of a field that is given twice."""
    twice = [value for value in values or () if (values or ()).count(value) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice")
    return values


class Section(BaseModel):
    """A part of a preset. Every field has a description: it is the key's explanation in config/README.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@contextlib.contextmanager
def named_errors(prefix: str = "") -> Iterator[None]:
    """Turn what pydantic refuses of a section into a ConfigError of one line, which names the first key."""
    try:
        yield
    except ValidationError as error:
        raise ConfigError(prefix + next(said_of(error.errors()[0]))) from None


def said_of(error: Any) -> Iterator[str]:
    """Yield what pydantic refuses of a section, with the key, in one line; a message may have several."""
    key = ".".join(str(part) for part in error["loc"] if not str(part).startswith(TAG) and part != "[key]")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    elif error["type"] in ("model_type", "dict_type"):
        message = "not a mapping of keys to values"
    elif error["type"] == "union_tag_invalid":
        key, message = f"{key}.kind", f"one of {error['ctx']['expected_tags'].replace(TAG, '')}"
    for line in message.splitlines():
        yield f"{key}: {line}" if key else line


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
