"""The step `download`: weights and images of others, taken once, checked, and kept as one file each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config.preset import Preset
from ppap.config.runs import external_models
from ppap.workflow.layout import Layout
from ppap.workflow.reads.networks import download_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class Download(Step):
    """Of a network, of reference images, or of a data set."""

    message = "Downloading {wildcards.model}"
    resources = "download"
    gpu = False
    priority = 50
    local = True  # a cluster's nodes often have no network
    retries = 3

    model: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, external_models(layout.preset))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.model(self.model)]

    def inputs(self, layout: Layout) -> list[Path]:
        return []

    def keys(self, preset: Preset) -> list[str]:
        return download_keys(preset, self.model)

    def cost(self, costs: Costs) -> Cost:
        return costs.download(self.model)

    def run(self, layout: Layout) -> None:
        from ppap.data.downloads import Downloads
        from ppap.workflow.external import download

        lock = layout.preset.folder / "downloads.lock"
        download(layout, Downloads(layout.downloads, lock), self.model)
