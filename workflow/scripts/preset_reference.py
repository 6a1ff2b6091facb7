"""Write what the code says of presets (`make schema`): their JSON schema, and every key's explanation in config/README.md."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ppap.config.preset import Preset
from ppap.config.reading import json_schema
from ppap.utils.settings import Section, is_free

SCHEMA, PAGE = Path("workflow/schemas/config.schema.json"), Path("config/README.md")
BEGIN, END = "<!-- keys: `make schema` writes what follows -->", "<!-- end of keys -->"
_BY_NAME = {"guides": "NAME", "judges": "NAME", "samplers": "NAME", "methods": "NAME"}


def with_keys(page: str) -> str:
    """Return a page of Markdown with the explanation of every key between its two marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{_keys()}\n{END}{after}"


def sections() -> dict[type[Section], list[str]]:
    """Every class of sections, and the keys where it stands; "" is the preset itself."""
    places: dict[type[Section], list[str]] = {}

    def visit(kind: type[Section], key: str) -> None:
        known = places.setdefault(kind, [])
        if key not in known:
            known.append(key)
            for name, field in kind.model_fields.items():
                below = f"{key}.{name}".lstrip(".") + (".NAME" if name in _BY_NAME and not key else "")
                for part in _held(field.annotation):
                    visit(part, below)

    visit(Preset, "")
    return places


def _held(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _held(part)


def _base(kind: type[Section]) -> type[Section] | None:
    """The section whose keys a kind of section has too."""
    return next((b for b in kind.__mro__[1:] if issubclass(b, Section) and b.model_fields), None)


def _title(kind: type[Section], keys: list[str], shared: bool) -> str:
    """The key where a section stands; the name of a shared one, in words."""
    if not shared:
        return keys[0].removesuffix(".NAME") or "Top level"
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", kind.__name__.removesuffix("Config"))
    return " ".join([words[0], *(word.lower() for word in words[1:])])


def _keys() -> str:
    """The sections, each with its text and a table of its keys; those of one title together, shared ones last."""
    places = sections()
    shared = {kind for kind, keys in places.items() if len(keys) > 1} | set(map(_base, places))
    titles = {kind: _title(kind, keys, kind in shared) for kind, keys in places.items()}
    links = {kind.__name__: _link(title) for kind, title in titles.items()}
    schemas = Preset.model_json_schema()
    definitions = {**schemas["$defs"], Preset.__name__: schemas}
    order = list(dict.fromkeys(titles.values()))
    parts: list[str] = []
    for kind in sorted(titles, key=lambda kind: (kind in shared, order.index(titles[kind]))):
        title = titles[kind]
        heading = f"{'#' * (2 + title.replace('.NAME', '').count('.'))} {title}"
        parts += [heading] if heading not in parts else []
        parts.append(inspect.cleandoc(kind.__doc__ or ""))
        if kind in shared:
            parts.append(f"It stands at {', '.join(f'`{key}`' for key in places[kind])}.")
        fields, base = kind.model_fields, _base(kind)
        if base is not None:
            parts.append(f"It has the keys of a [{titles[base].lower()}](#{titles[base].lower()}), and:")
            fields = {name: f for name, f in fields.items() if name not in base.model_fields}
        schema = definitions[kind.__name__]["properties"]
        rows = [_row(name, field, schema[name], links) for name, field in fields.items()]
        parts.append("\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _link(title: str) -> str:
    return f"[{title}](#{re.sub(r'[^a-z0-9_ -]', '', title.lower()).replace(' ', '-')})"


def _row(name: str, field: FieldInfo, schema: dict[str, Any], links: dict[str, str]) -> str:
    meaning = (field.description or "") + (" (makes nothing stale)" if is_free(field) else "")
    cells = (f"`{name}`", _value(schema, links), _default(field), meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _value(schema: dict[str, Any], links: dict[str, str]) -> str:
    """Say what may stand there, by the JSON schema of a field."""
    if "$ref" in schema:
        return links[schema["$ref"].rpartition("/")[2]]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        shown = (_value(option, links) for option in options if option.get("type") != "null")
        return " or ".join(dict.fromkeys(shown))
    if choices := schema.get("enum") or ("const" in schema and [schema["const"]]):
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = schema.get("type")
    if kind == "array":
        return f"list: {_value(schema['items'], links)}"
    if kind == "object":
        named = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
        inner = next((each for each in named if isinstance(each, dict)), None)
        return f"by name: {_value(inner, links)}" if inner else "arguments"
    if kind == "string" and "user:" in schema.get("pattern", ""):
        return "`user:MODULE.NAME`"
    low, high = schema.get("minimum"), schema.get("maximum", math.inf)
    bounds = f", {low:g} to {high:g}" if low is not None and high <= 10_000 else ""
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    return words.get(str(kind), "text") + bounds


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required" if field.is_required() else "none"
    if isinstance(value, Section):
        given = value.model_dump(mode="json", exclude_defaults=True)
        return ", ".join(f"`{key}: {number}`" for key, number in given.items())
    if value is None or value in ((), ""):
        return "none"
    values = value if isinstance(value, tuple) else (value,)
    return ", ".join(f"`{v if isinstance(v, str) else json.dumps(v)}`" for v in values)


if __name__ == "__main__":
    SCHEMA.write_text(json_schema(), encoding="utf-8")
    PAGE.write_text(with_keys(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
