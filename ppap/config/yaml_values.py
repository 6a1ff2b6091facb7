"""Strict YAML: plain finite values in UTF-8, every key once, neither deep nor large; errors name the line."""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

_BYTES, _LEVELS, _VALUES = 1 << 20, 50, 100_000
_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, half characters, line separators


def content(path: Path) -> bytes:
    """What is in a file, though never much more than a preset may hold; OSError as it comes."""
    with path.open("rb") as file:
        return file.read(_BYTES + 1)


def read(data: bytes) -> Any:
    """The values in a YAML text; ValueError says in one line what is wrong, and on which line."""
    if len(data) > _BYTES:
        raise ValueError(f"larger than {_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: not UTF-8 (byte {data[error.start]:#04x})") from None
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}: "
        reason = error.problem or error.context or "cannot be parsed"
        kind = "" if isinstance(error, _RefusedError) else "not YAML: "
    except yaml.YAMLError as error:  # of the reader, which knows no lines
        place, kind, reason = "", "not YAML: ", str(error)
    raise ValueError(f"{place}{kind}{' '.join(reason.split())}")


class _RefusedError(ConstructorError):
    """YAML that has no place in a preset."""

    def __init__(self, place: Any, reason: str) -> None:
        super().__init__(problem=reason, problem_mark=place.start_mark)


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what the others guess at.

    An alias counts as what it repeats, so that a few lines cannot stand for millions of values.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.level = self.values = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        alias = self.check_event(yaml.AliasEvent)
        if self.level >= _LEVELS:
            raise _RefusedError(self.peek_event(), f"more than {_LEVELS} levels deep")
        before, self.level = self.values, self.level + 1
        node = super().compose_node(parent, index)
        self.level -= 1
        if node is None:
            return None
        if alias and id(node) not in self.sizes:
            raise _RefusedError(node, "a value that contains itself")
        self.values += self.sizes[id(node)] if alias else 1
        self.sizes.setdefault(id(node), self.values - before)
        if self.values > _VALUES:
            raise _RefusedError(node, f"more than {_VALUES} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise _RefusedError(key, "a key is a name, not a list or a mapping")
            if (key.tag, key.value) in seen:
                raise _RefusedError(key, f"key '{key.value}' is given twice")
            seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        if not isinstance(node, ScalarNode):
            return super().construct_object(node, deep)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError):  # such as !!int x, or 5,000 digits
            shown = node.value if len(node.value) < 40 else f"{node.value[:40]}..."
            raise _RefusedError(node, f"'{shown}' is no {node.tag.rpartition(':')[2]}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _RefusedError(node, f"'{node.value}' is not a finite number")
        if isinstance(value, str) and any(unicodedata.category(c) in _UNPRINTABLE for c in value):
            raise _RefusedError(node, "a line break or a control character inside a value")
        return value

    def construct_undefined(self, node: Node) -> NoReturn:
        kind = node.tag.rpartition(":")[2]
        raise _RefusedError(node, f"a value of the type {kind}; if it is text, put it in quotes")


_Loader.yaml_constructors = {
    **{
        tag: make
        for name in _TAGS
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag == f"tag:yaml.org,2002:{name}"
    },
    None: _Loader.construct_undefined,
}
