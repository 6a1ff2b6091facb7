"""The rows of the table: what is measured, in which order, and how the networks run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from benchmarks.networks import STEPS
from ppap.config.preset import Preset
from ppap.utils.device import Runtime

FORWARD, TRAINING = "forward", "training"
METHODS = ("none", "off_the_shelf", "x0_gradient", "experts")

_TITLES = {
    FORWARD: "U-Net, one forward pass",
    "none": "DDIM-25, no guidance",
    "off_the_shelf": "DDIM-25, {guide} off the shelf",
    "x0_gradient": "DDIM-25, x0-gradient of {guide}",
    "experts": "DDIM-25, five experts of {guide}",
    TRAINING: "training an expert of {guide}",
}

_OWN: dict[str, Any] = {"precision": "bfloat16", "channels_last": True}
OWN = "bfloat16, channels_last"
"""The options that config/imagenet256.yaml has."""

_OPTIONS: dict[str, dict[str, Any]] = {
    OWN: _OWN,
    "bfloat16": {"precision": "bfloat16"},
    "float32": {},
    "compile": _OWN | {"compile": True},
    "reduce-overhead": _OWN | {"compile": "reduce-overhead"},
}
"""The last two with the preset's own; the last is compiled into CUDA graphs, if `runtime.compile` has that."""


@dataclass(frozen=True)
class Row:
    """One thing to measure: so many `steps` of a batch of images, after others to warm up."""

    work: str
    guide: str
    options: str
    batch: int
    steps: int

    @property
    def title(self) -> str:
        return _TITLES[self.work].format(guide=self.guide)

    @property
    def runtime(self) -> Runtime:
        return options()[self.options]

    @property
    def steps_an_image(self) -> int:
        """After how many steps the images of a batch are done."""
        return STEPS if self.work in METHODS else 1


@dataclass(frozen=True)
class Sizes:
    """Images at a time, in drawing and in training; steps of a whole run, and of what is measured by a few."""

    batch: int
    training: int
    whole: int
    few: int


def options() -> dict[str, Runtime]:
    """The ways to run networks that there are, by their words in the table."""
    found = {}
    for name, how in _OPTIONS.items():
        try:
            found[name] = Runtime(**how)
        except ValidationError:  # an option that ppap does not have
            continue
    return found


def rows(preset: Preset, chosen: list[str], sizes: Sizes) -> list[Row]:
    """List the rows: those that matter most first, and of those that take a minute to compile the work that takes most time."""
    found = []
    for name in chosen:
        steps = sizes.whole if name == OWN else sizes.few
        guide = next(iter(preset.guides))
        found.append(Row(FORWARD, guide, name, sizes.batch, sizes.few))
        for method in METHODS:
            batch = max(1, sizes.batch // 2) if method == "x0_gradient" else sizes.batch
            found.append(Row(method, guide, name, batch, steps))
        found += [Row(TRAINING, each, name, sizes.training, sizes.few) for each in preset.guides]
    return sorted(found, key=lambda row: _rank(row, next(iter(preset.guides))))


def _rank(row: Row, first: str) -> int:
    if not row.runtime.compile:
        return 0
    return 1 if row.work == "experts" or (row.work, row.guide) == (TRAINING, first) else 2
