"""Registries of kinds: a name in a preset stands for one of ours, or for the user's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import AfterValidator, WithJsonSchema

from ppap.utils import user_code
from ppap.utils.errors import ConfigError

Kind = TypeVar("Kind")


class Registry(Generic[Kind]):
    """Kinds of one thing, such as guidance, by their names in presets.

    `what` is the thing in errors. The user's own are called user:MODULE.NAME, where NAME is `expected` to be a
    class or a function; `of_user(name, object)` makes a kind of it. Without `of_user` there are none but these.
    """

    def __init__(
        self,
        what: str,
        kinds: Mapping[str, Kind],
        expected: str = "class",
        of_user: Callable[[str, Any], Kind] | None = None,
    ) -> None:
        self.what, self.expected, self._of_user = what, expected, of_user
        self._kinds = dict(kinds)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the kinds that are built in."""
        return iter(self._kinds)

    def check(self, name: str) -> str:
        """Return the name, if it can be one: ConfigError unless it is built in, or of the form user:MODULE.NAME."""
        if name not in self._kinds and not (self._of_user and user_code.is_named(name)):
            raise ConfigError(f"{self.what} '{name}': write {self._choices()}")
        return name

    def get(self, kind: str | Kind, folders: Sequence[Path] = ()) -> Kind:
        """Return the kind of this name, the user's own from a module in one of the `folders`; or the kind given itself.

        ConfigError if there is none. What the user's module raises when it is imported comes as it is.
        """
        if isinstance(kind, str):
            if self.check(kind) in self._kinds:
                return self._kinds[kind]
            name, thing = kind, user_code.find(kind, self.what, self.expected, folders)
        else:
            name, thing = getattr(kind, "__name__", repr(kind)), kind
        if self._of_user is None or any(thing is known for known in self._kinds.values()):
            return thing
        return self._of_user(name, thing)

    @property
    def json_schema(self) -> dict[str, Any]:
        """The schema of a key that names a kind, for editors."""
        own = {"enum": list(self._kinds), "type": "string"}
        user = {"pattern": user_code.PATTERN, "type": "string"}
        return {"anyOf": [own, user]} if self._of_user else own

    def _choices(self) -> str:
        user = [f"user:MODULE.{self.expected.upper()}"] if self._of_user else []
        *others, last = [*self._kinds, *user]
        return f"{', '.join(others)} or {last}" if others else last


def kind_of(registry: Registry[Any]) -> tuple[AfterValidator, WithJsonSchema]:
    """Make a text the name of a kind: it is checked, and the JSON schema lists the kinds that are built in.

    Whether there is such code of the user's own is seen once it is known where the preset lies.
    """

    def check(name: str) -> str:
        try:
            return registry.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check), WithJsonSchema(registry.json_schema)
