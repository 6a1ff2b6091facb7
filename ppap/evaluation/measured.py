"""Metrics as they lie on disk, one JSON file for each sampler and guide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, model_validator

from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import REMEDY

ALWAYS = {"fid", "is", "precision", "recall"}


class Run(NamedTuple):
    """One guided sample set. A run without guidance has the guide `unguided`."""

    sampler: str
    guide: str
    method: str


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Spread(_Strict):
    """A metric's values, one for each sampling seed; their mean and standard deviation (None for one seed)."""

    mean: FiniteFloat
    std: FiniteFloat | None
    values: list[FiniteFloat]


Metrics = dict[str, Spread]


class Measured(_Strict):
    """The metrics of every method with a sampler and guide."""

    sampler: str
    guide: str
    samples_per_seed: int
    seeds: list[int]
    methods: dict[str, Metrics]
    shared: dict[str, dict[str, Metrics]] = {}
    """The scores of samples that guides share, by guide."""
    scores: dict[str, list[str]] = {}
    """The names of the scores that all methods have, by guide: with them, a lost score is noticed."""

    @model_validator(mode="after")
    def is_complete(self) -> Self:
        for method, metrics in self.methods.items():
            if not metrics.keys() >= ALWAYS:
                raise ValueError(f"{method} has {', '.join(metrics) or 'no metrics'}")
        scores = [pair for methods in self.shared.values() for pair in methods.items()]
        for method, metrics in [*self.methods.items(), *scores]:
            for name, spread in metrics.items():
                if len(spread.values) != len(self.seeds):
                    raise ValueError(f"{method}: {name} has {len(spread.values)} values")
        return self

    @property
    def lost(self) -> Iterator[str]:
        """Scores that a method should have, and has not."""
        for guide, names in self.scores.items():
            held = self.methods if guide == self.guide else self.shared.get(guide, {})
            for method in self.methods:
                missing = [name for name in names if name not in held.get(method, {})]
                yield from (f"{method} lacks the {name} of {guide}" for name in missing)


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a file of metrics; DataError, with the old one left in place, if one of them is not finite."""
    try:
        Measured.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path}: not written: {_first(error)}") from None
    files.write_json(path, content)


def read(path: Path) -> Measured:
    """Read a file of metrics; DataError unless it is whole."""
    try:
        return Measured.model_validate(files.read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}: not a file of metrics: {_first(error)}; {REMEDY}") from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
