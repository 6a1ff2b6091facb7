"""Registries of kinds: a name in a preset stands for one of ours, or for the user's own code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import AfterValidator, WithJsonSchema

from ppap.utils import user_code
from ppap.utils.arguments import check_own_options
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

    def get(
        self,
        kind: str | Kind | Callable[..., Any],
        folders: Sequence[Path] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Kind:
        """Return the kind of this name, the user's own from a module (`user_code.find`); or the kind given itself.

        `options` are its arguments by name, of a built-in kind those that can be given by name alone; in Python,
        functools.partial gives them as well. ConfigError if there is no such kind, or it does not take them. What the
        user's code raises comes as it is.
        """
        own = getattr(kind, "func", kind)  # of a functools.partial
        name = kind if isinstance(kind, str) else getattr(own, "__name__", repr(own))
        thing: Any = kind
        if isinstance(kind, str):
            known = self.check(kind) in self._kinds
            thing = self._kinds[kind] if known else user_code.find(kind, self.what, self.expected, folders)
        what = f"{self.what} '{name}'"
        thing, given, facts = _taken_apart(what, thing, options or {})
        ours = self._of_user is None or any(thing is known for known in self._kinds.values())
        if ours and not given:
            return thing
        if given:
            (check_own_options if ours else user_code.check_options)(what, thing, given)
        made: Kind = _with_options(thing, given, facts)
        return self._of_user(name, made) if self._of_user else made

    @property
    def json_schema(self) -> dict[str, Any]:
        """The schema of a key that names a kind, for editors."""
        own = [{"enum": list(self._kinds), "type": "string"}] if self._kinds else []
        user = [{"pattern": user_code.PATTERN, "type": "string"}] if self._of_user else []
        return {"anyOf": [*own, *user]} if own and user else (own + user)[0]

    def _choices(self) -> str:
        user = [f"user:MODULE.{self.expected.upper()}"] if self._of_user else []
        *others, last = [*self._kinds, *user]
        return f"{', '.join(others)} or {last}" if others else last


def _taken_apart(what: str, thing: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return a kind, all its options, and its facts: attributes of the functools.partial that gives some of these."""
    if not isinstance(thing, functools.partial):
        return thing, dict(options), {}
    if thing.args:
        raise ConfigError(f"{what}: give options by name, as in functools.partial(NAME, option=3)")
    return thing.func, {**thing.keywords, **options}, vars(thing)


def _with_options(thing: Any, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    """Give a class or a function these arguments by name; its facts, which are attributes, stay."""
    if not options:
        return thing
    if isinstance(thing, type):
        told = functools.partialmethod(thing.__init__, **options)  # type: ignore[misc]
        return type(thing)(thing.__name__, (thing,), {"__init__": told, "__module__": thing.__module__, **facts})
    made = functools.partial(thing, **options)
    vars(made).update(vars(thing) | facts)
    return made


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
