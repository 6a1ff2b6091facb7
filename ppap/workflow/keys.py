"""Keys of a preset: its leaves by dotted name, and config hashes of the ones that decide what a job makes.

A key such as "guides.vit.train.steps" names a leaf: a value that is no section. Snakemake's rules, DVC's stages
and the checkpoints of unfinished jobs all tell stale work from current by the keys that a job declares.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ppap.config.preset import Preset
from ppap.utils import user_code
from ppap.utils.settings import Section, holds_section, is_free


def leaves(section: Section, prefix: str = "", free: bool = True) -> Iterator[str]:
    """Yield the key of every leaf of a section; with `free=False` only of those that decide what is computed.

    A section that is left out has none, nor has none of several.
    """
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), prefix + name
        if is_free(field) and not free:
            continue
        if isinstance(value, Section):
            yield from leaves(value, f"{key}.", free)
        elif isinstance(value, dict) and key == "tables":
            yield from (f"{key}.{table}" for table in value)
        elif isinstance(value, dict) and any(isinstance(v, Section) for v in value.values()):
            for own, part in value.items():
                yield from leaves(part, f"{key}.{own}.", free)
        elif value not in (None, {}) or not holds_section(field.annotation):
            yield key


def values(preset: Preset, keys: Iterable[str]) -> dict[str, Any]:
    """Return the values of these keys, in the order of the keys' names; those that are the default are left out.

    So a new key of a later version, whose default is what was done before, makes nothing stale. A key that names code of
    the user's own has a hash of its module's file besides; modules which that one imports are not looked at. So has one
    that names a file of prompts or words.
    """
    by_key: dict[str, Any] = {}
    for key in sorted(set(keys)):
        with contextlib.suppress(KeyError):
            by_key[key] = reduce(getitem, key.split("."), preset.stated)
    for key, value in by_key.items():
        if isinstance(value, str) and user_code.is_well_named(value):
            by_key[key] = [value, _hash_of(user_code.module_file(value, preset.module_folders))]
        elif isinstance(value, str) and key.endswith((".prompts.file", ".targets.words")):
            by_key[key] = [value, _hash_of(Path(_placed(preset, key)))]
    return by_key


def _placed(section: Any, key: str) -> Any:
    """Return the value of a key in the preset, which knows where its paths lead."""
    for name in key.split("."):
        section = section[name] if isinstance(section, dict) else getattr(section, name)
    return section


def _hash_of(path: Path | None) -> str:
    """Hash a file; the check of the preset says if it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else ""


def fingerprint(preset: Preset, keys: Iterable[str]) -> str:
    """Return a short hash of these keys and their values."""
    text = json.dumps(values(preset, keys), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
