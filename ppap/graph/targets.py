"""What each phase of the workflow makes: the files that the rules named after phases ask for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ppap.graph.layout import Layout
from ppap.preset import JUDGES, Preset
from ppap.preset.runs import all_runs, external_models, figure_names, taught_guides, trained_models


class Targets:
    """A preset's files, phase by phase."""

    def __init__(self, preset: Preset, layout: Layout | None = None) -> None:
        self.preset, self.layout, self.runs = preset, layout or Layout(preset), all_runs(preset)
        self.networks = [*trained_models(preset), *external_models(preset)]

    @property
    def models(self) -> list[str]:
        return [str(self.layout.model(name)) for name in self.networks if name not in JUDGES]

    @property
    def judges(self) -> list[str]:
        return [str(self.layout.model(name)) for name in self.networks if name in JUDGES]

    @property
    def clean(self) -> list[str]:
        return [str(self.layout.clean(i)) for i in range(len(self.layout.clean_sizes))]

    @property
    def labels(self) -> list[str]:
        taught, parts = taught_guides(self.preset), range(len(self.layout.label_sizes))
        return [str(self.layout.labels(guide, part)) for guide in taught for part in parts]

    @property
    def experts(self) -> list[str]:
        banks = (self.layout.experts(run.guide, run.method) for run in self.runs)
        return _unique(path for bank in banks for path in bank)

    @property
    def samples(self) -> list[str]:
        shards = range(len(self.layout.sample_sizes))
        return [str(self.layout.samples(run, shard)) for run in self.runs for shard in shards]

    @property
    def evaluation(self) -> list[str]:
        features = (self.layout.features(run.sampler, run.guide) for run in self.runs)
        return [*_unique(features), *self.metrics]

    @property
    def metrics(self) -> list[str]:
        return _unique(self.layout.metrics(run.sampler, run.guide) for run in self.runs)

    @property
    def tables(self) -> list[str]:
        suffixes = ("csv", "md", "tex", "html", "json")
        return [str(self.layout.table(name, s)) for name in self.preset.tables for s in suffixes]

    @property
    def figures(self) -> list[str]:
        return [str(self.layout.figure(name)) for name in figure_names(self.preset)]

    @property
    def everything(self) -> list[str]:
        """Every result, not the last ones only: a fresh clone has tables, but nothing they were made of."""
        return [
            *(*self.models, *self.judges, *self.clean, *self.labels, *self.experts, *self.samples),
            *(*self.evaluation, *self.tables, *self.figures),
        ]


def _unique(paths: Iterable[Path]) -> list[str]:
    return list(dict.fromkeys(str(path) for path in paths))
