"""Names of kinds in a preset: their type, and the rule that there is what they name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import AfterValidator, WithJsonSchema

from ppap.errors import ConfigError
from ppap.registry import Registry

if TYPE_CHECKING:
    from ppap.preset.preset import Preset


def kind_of(registry: Registry[Any]) -> tuple[AfterValidator, WithJsonSchema]:
    """What makes a text the name of a kind: it is checked, and the JSON schema lists the kinds that are built in.

    Whether there is such code of the user's own is seen once it is known where the preset lies.
    """

    def check(name: str) -> str:
        try:
            return registry.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check), WithJsonSchema(registry.json_schema)


def problems_of_kinds(preset: Preset) -> Iterator[str]:
    """There is what samplers, methods, guides and judges name, and methods have the keys of their kind of guidance."""
    for name in (*preset.guides, *preset.judges):
        try:
            preset.task(name)
        except ConfigError as error:
            yield f"{preset.key(name)}.task: {error}"
    for name in preset.samplers:
        try:
            preset.sampler(name)
        except ConfigError as error:
            yield f"samplers.{name}.kind: {error}"
    for name, method in preset.methods.items():
        try:
            experts = preset.guidance(name).experts
        except ConfigError as error:
            yield f"methods.{name}.guidance: {error}"
            continue
        given = {v is not None for v in (method.supervision, method.experts, method.trainable)}
        if given != {experts}:
            yield (
                f"methods.{name}: supervision, experts and trainable belong to guidance: experts, "
                "all three"
            )
        elif method.imported and not experts:
            yield f"methods.{name}: imported belongs to guidance: experts"
