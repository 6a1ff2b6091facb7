"""Keys of a preset: its leaves by dotted name, and fingerprints of the ones that decide what a job makes.

A key such as "guides.vit.train.steps" names a leaf: a value that is no section. Snakemake's rules, DVC's stages
and the checkpoints of unfinished jobs all tell stale work from current by the keys that a job declares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, get_args

from ppap.config import Preset
from ppap.utils import user_code
from ppap.utils.settings import Section

# They say how a job is run, or where, never what it makes; no job declares them.
FREE = (
    *("preset", "modules", "dataset.path", "runtime.*", "resources.*"),
    *("*.channels_last", "*.checkpoint_every", "clean_images.batch_size", "sampling.batch_size"),
    "*.upsampling.batch_size",
)


def is_free(key: str) -> bool:
    """Whether a key has no part in what is computed."""
    return any(fnmatchcase(key, pattern) for pattern in FREE)


def leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a section with its key. A section that is left out has none, nor has none of several."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value not in (None, {}) or not holds_section(field.annotation):
            yield from _leaves(value, prefix + name)


def holds_section(annotation: Any) -> bool:
    """Whether a field of this type holds a section, if it holds anything."""
    parts = get_args(annotation) or (annotation,)
    return any(
        (isinstance(part, type) and issubclass(part, Section))
        or (part is not annotation and holds_section(part))
        for part in parts
    )


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Section):
        yield from leaves(value, f"{key}.")
    elif isinstance(value, dict) and any(isinstance(v, Section) for v in value.values()):
        for name, section in value.items():
            yield from leaves(section, f"{key}.{name}.")
    elif isinstance(value, dict) and key == "tables":
        for name, grids in value.items():
            yield f"{key}.{name}", grids
    else:
        yield key, value


def values(preset: Preset, keys: Iterable[str]) -> dict[str, Any]:
    """The values of these keys, in the order of the keys' names.

    Of a key that names code of the user's own, with a hash of the file that it is in: of modules which that one
    imports, nothing is known here.
    """
    found = {}
    for key in sorted(set(keys)):
        value: Any = preset.plain
        for name in key.split("."):
            value = value[name]
        found[key] = value
        if isinstance(value, str) and user_code.is_well_named(value):
            found[key] = [value, _source_of(value, preset)]
    return found


def _source_of(named: str, preset: Preset) -> str:
    path = user_code.module_file(named, preset.module_folders)
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(preset: Preset, keys: Iterable[str]) -> str:
    """A short hash of these keys and their values."""
    text = json.dumps(values(preset, keys), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
