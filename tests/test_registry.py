"""Registries of kinds, and the user's own code that they find."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppap.utils.errors import ConfigError
from ppap.utils.registry import Registry

Write = Callable[..., Path]


def shape(name: str, made: Any) -> tuple[str, Any]:
    return name, made()


SHAPES = Registry("shape", {"square": ("square", 4), "line": ("line", 2)}, "function", shape)


@pytest.fixture
def module(tmp_path: Path) -> Write:
    """A module of the user's own."""

    def write(name: str = "strange_shapes", source: str = "def corner(): return 3\n") -> Path:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return tmp_path

    return write


def test_built_in_kinds_come_by_name() -> None:
    assert list(SHAPES) == ["square", "line"]
    assert SHAPES.get("line") == ("line", 2)


@given(st.text("aelnqrsu:.é "))
def test_a_name_is_known_written_as_user_code_or_refused_with_the_known_ones(name: str) -> None:
    if name in ("square", "line") or name.startswith("user:"):
        assert SHAPES.check(name) == name
    else:
        with pytest.raises(ConfigError) as error:
            SHAPES.check(name)
        assert str(error.value) == f"shape '{name}': write square, line or user:MODULE.FUNCTION"


@given(st.from_regex(r"user:[a-z.0-9 ]{0,12}", fullmatch=True))
def test_the_json_schema_takes_the_names_that_are_looked_for(name: str) -> None:
    *_, user = SHAPES.json_schema["anyOf"]
    with pytest.raises(ConfigError) as error:
        SHAPES.get(name)
    assert ("write user:MODULE.FUNCTION" in str(error.value)) == (re.search(user["pattern"], name) is None)


def test_a_registry_without_user_code_names_only_its_own() -> None:
    closed = Registry("shape", {"square": 4})
    assert closed.json_schema == {"enum": ["square"], "type": "string"}
    with pytest.raises(ConfigError, match=r"^shape 'user:a\.b': write square$"):
        closed.get("user:a.b")


def test_the_users_own_kind_is_made_of_what_its_module_holds(module: Write) -> None:
    folder = module()
    assert SHAPES.get("user:strange_shapes.corner", [folder]) == ("user:strange_shapes.corner", 3)
    module("strange_package/flat", "def corner(): return 1\n")
    (folder / "strange_package" / "__init__.py").touch()
    assert SHAPES.get("user:strange_package.flat.corner", [folder])[1] == 1


@pytest.mark.parametrize("name", ["os.getcwd", "pytest.exit"])
def test_nothing_of_python_or_of_installed_packages_is_found(tmp_path: Path, name: str) -> None:
    missing = name.partition(".")[0]
    with pytest.raises(ConfigError, match=rf"^shape 'user:{name}': there is no {missing}\.py"):
        SHAPES.get(f"user:{name}", [tmp_path])


def test_a_module_without_the_name_is_named(module: Write) -> None:
    with pytest.raises(ConfigError) as error:
        SHAPES.get("user:strange_shapes.corner", [module(source="corner = 3")])
    assert str(error.value) == ("shape 'user:strange_shapes.corner': strange_shapes has no function 'corner'")


def test_a_kind_may_be_given_itself() -> None:
    line = SHAPES.get("line")
    assert SHAPES.get(line) is line

    def corner() -> int:
        return 3

    assert SHAPES.get(corner) == ("corner", 3)


def test_a_module_must_not_have_the_name_of_another(module: Write) -> None:
    with pytest.raises(ConfigError, match=r"pathlib\.py has the name of another module; rename it"):
        SHAPES.get("user:pathlib.corner", [module("pathlib")])
