"""Docstrings of the package, which are plain text with `code` in backticks, as the markup that autodoc reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

_CODE = re.compile(r"(`[^`]+`)")
_MARKUP = re.compile(r"([\\*|_])")


def restructured(line: str) -> str:
    """A line with its code as literals; all else that reStructuredText would read as markup is plain text."""
    parts = _CODE.split(line)
    return "".join(f"`{part}`" if _CODE.fullmatch(part) else _MARKUP.sub(r"\\\1", part) for part in parts)


def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = map(restructured, [*lines, *fields_of(obj)])


def fields_of(obj: object) -> list[str]:
    """The fields of a section of presets that have descriptions, with these."""
    if not (isinstance(obj, type) and issubclass(obj, BaseModel)):
        return []
    said = {name: field.description for name, field in obj.model_fields.items()}
    return ["", *(f"- `{name}`: {text}" for name, text in said.items() if text), ""]


def skip(app: Sphinx, what: str, name: str, obj: object, default: bool, options: object) -> bool | None:
    """Leave out what says nothing of its own: fields of a NamedTuple without a docstring, settings of pydantic."""
    silent = (obj.__doc__ or "").startswith("Alias for field number") or name == "model_config"
    return True if silent else None


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
