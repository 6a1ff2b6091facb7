"""The step `metrics`: FID, Inception Score, precision, recall and target-class rate, of features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from ppap.config.preset import Preset
from ppap.config.runs import evaluated, group, judged_guides
from ppap.data.datasets import reference_statistics
from ppap.evaluation import measured, metrics
from ppap.evaluation.features import describe_statistics
from ppap.evaluation.metrics import over_seeds
from ppap.utils import files, tensor_spec
from ppap.utils.errors import DataError
from ppap.utils.settings import UNGUIDED
from ppap.utils.tensor_spec import FEATURES, REMEDY, TARGET, TensorSpec
from ppap.workflow import targets
from ppap.workflow.layout import Layout
from ppap.workflow.reads import answer_keys, target_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class Metrics(Step):
    """Compute the metrics of all methods with a sampler and guide."""

    message = "Computing the metrics of {wildcards.sampler}, guide {wildcards.guide}"
    gpu = False

    sampler: str
    guide: str

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return [cls(*pair) for pair in evaluated(layout.preset)]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.metrics(self.sampler, self.guide)]

    def inputs(self, layout: Layout) -> list[Path]:
        features = layout.features(self.sampler, self.guide)
        return [layout.reference, features, *layout.target_file(self.guide)]

    def keys(self, preset: Preset) -> list[str]:
        runs = group(preset, self.sampler, self.guide)
        guides = {guide for run in runs for guide in judged_guides(preset, run)}
        tasks = [key for guide in guides for key in answer_keys(preset, guide)]
        own = ["evaluator.kind", "evaluator.neighbours", "dataset.classes", *tasks]
        return [*target_keys(preset, self.guide), *own]

    def run(self, layout: Layout) -> None:
        """Write every metric's values, one for each sampling seed, with their mean and standard deviation.

        Samples that guides share have scores for each of them.
        """
        preset, sampling = layout.preset, layout.preset.sampling
        reference = _read_reference(layout)
        guides, by_method = _read_features(layout, self.sampler, self.guide)
        methods: dict[str, Any] = {}
        names: dict[str, list[str]] = {}
        shared: dict[str, dict[str, Any]] = {}

        def of_seed(samples: dict[str, Tensor]) -> dict[str, float]:
            return metrics.metrics_of(samples, reference, preset.evaluator.neighbours)

        for method, tensors in sorted(by_method.items()):
            methods[method] = over_seeds(tensors, sampling.samples, of_seed)
            for guide in guides:
                scores = over_seeds(tensors, sampling.samples, partial(_scores, preset, guide))
                names[guide] = list(scores)
                if self.guide != UNGUIDED:
                    methods[method] |= scores
                elif scores:
                    shared.setdefault(guide, {})[method] = scores
        content = {
            "sampler": self.sampler,
            "guide": self.guide,
            "samples_per_seed": sampling.samples,
            "seeds": list(sampling.seeds),
            "methods": methods,
            "scores": names,
            **({"shared": shared} if shared else {}),
        }
        measured.write(layout.metrics(self.sampler, self.guide), content)


def _scores(preset: Preset, guide: str, tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute the scores of samples held against a guide's targets, of their statistics GUIDE.NAME, if there are any."""
    own = f"{guide}."
    statistics = {n.removeprefix(own): v for n, v in tensors.items() if n.startswith(own)}
    return preset.task_of(guide).scored(statistics) if statistics else {}


def _read_reference(layout: Layout) -> dict[str, Tensor]:
    """Read the features of the real images, and the statistics that came with these."""
    path, preset, judge = layout.reference, layout.preset, layout.preset.evaluator
    statistics = reference_statistics() if judge.in_print else {}
    spec = {**judge.describe("images", preset.dataset.classes), **statistics}
    tensors = tensor_spec.read(path, spec)
    count, needed = len(tensors[FEATURES]), judge.neighbours + 1
    if count < needed:
        raise DataError(f"{path}: features of {count} images; evaluator.neighbours needs {needed}")
    return tensors


def _read_features(layout: Layout, sampler: str, guide: str) -> tuple[list[str], dict[str, dict[str, Tensor]]]:
    """Read the features of the preset's methods, and name the guides whose targets samples were held against.

    DataError if there are none, or they are of another evaluator than the reference's.
    """
    preset, path = layout.preset, layout.features(sampler, guide)
    about = {"sampler": sampler, "guide": guide} | files.read_metadata(layout.reference)
    tensor_spec.check_metadata(path, about)
    tensors = files.read_tensors(path)
    by_method: dict[str, dict[str, Tensor]] = {}
    for name, values in tensors.items():
        method, _, part = name.partition("/")
        by_method.setdefault(method, {})[part] = values
    held = {part.partition(".")[0] for parts in by_method.values() for part in parts if "." in part}
    guides = sorted(held & preset.guides.keys())
    spec = _described(layout, guides)
    tensor_spec.check(path, tensors, {f"{m}/{n}": s for m in by_method for n, s in spec.items()})
    mine = {method: parts for method, parts in by_method.items() if method in preset.methods}
    if not mine:
        raise DataError(f"{path}: features of no method of the preset; {REMEDY}")
    for parts in mine.values():
        targets.check(layout, guide, path, parts[TARGET])
    return guides, mine


def _described(layout: Layout, guides: Iterable[str]) -> dict[str, TensorSpec]:
    """Describe a method's part of a file of features: answers, targets, and statistics GUIDE.NAME."""
    preset, count = layout.preset, layout.preset.sampling.total
    spec = {**preset.evaluator.describe(count, preset.dataset.classes), **targets.numbers_spec(count)}
    for guide in guides:
        each = describe_statistics(preset.task_of(guide), count)
        spec |= {f"{guide}.{name}": one for name, one in each.items()}
    return spec
