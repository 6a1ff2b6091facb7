"""The step `features`: the evaluator's answers on the samples of all methods with a sampler and guide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ppap.config.preset import Preset
from ppap.config.runs import Run, evaluated, group, judged_guides
from ppap.data.loading import Images
from ppap.evaluation.features import class_statistics, features_of, picture_statistics
from ppap.utils import files
from ppap.utils.device import device_of
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import PICTURE, TARGET
from ppap.workflow import evaluator, networks, stored_images, targets
from ppap.workflow.layout import Layout
from ppap.workflow.reads import evaluator_keys, finished_keys, network_keys, picture_target_keys, target_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class Features(Step):
    """Extract the features of the methods with a sampler and guide: a job for all, since a start takes as long as one."""

    message = "Extracting the features of {wildcards.sampler}, guide {wildcards.guide}"

    sampler: str
    guide: str
    methods: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    """The guides whose targets the samples are held against: their own, or all that share them."""

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return [cls.of(layout, sampler=s, guide=g) for s, g in evaluated(layout.preset)]

    @classmethod
    def of(cls, layout: Layout, **wildcards: Any) -> Self:
        job = cls(**wildcards)
        runs = group(layout.preset, job.sampler, job.guide)
        return cls.of_methods(layout, job.sampler, job.guide, [run.method for run in runs])

    @classmethod
    def of_methods(cls, layout: Layout, sampler: str, guide: str, methods: Sequence[str]) -> Self:
        """Return the job for some of the methods; all that the file has are scored against the same targets."""
        runs = [Run(sampler, guide, method) for method in methods]
        runs = list(dict.fromkeys([*group(layout.preset, sampler, guide), *runs]))
        against = (other for run in runs for other in judged_guides(layout.preset, run))
        return cls(sampler, guide, tuple(methods), tuple(dict.fromkeys(against)))

    @property
    def runs(self) -> list[Run]:
        return [Run(self.sampler, self.guide, method) for method in self.methods]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.features(self.sampler, self.guide), layout.archives(self.sampler, self.guide)]

    def inputs(self, layout: Layout) -> list[Path]:
        shards = range(len(layout.sample_sizes))
        places = (layout.samples, layout.targets)
        samples = [place(run, shard) for run in self.runs for shard in shards for place in places]
        samples += [layout.finished(path) for path in samples if path.suffix == ".npy"]
        return list(dict.fromkeys([*layout.evaluator, *samples, *layout.targets_and_judges(self.against)]))

    def arguments(self) -> list[str]:
        return [self.sampler, self.guide, *self.methods]

    def keys(self, preset: Preset) -> list[str]:
        samples = [*target_keys(preset, self.guide), "sampling.shard_size", *finished_keys(preset)]
        against = [key for guide in self.against for key in _compared_keys(preset, guide)]
        return [*samples, *evaluator_keys(preset), *against]

    def run(self, layout: Layout) -> None:
        """Write answers and statistics as METHOD/NAME, and the samples as .npz for ADM's evaluator.

        Other methods' features that the file holds stay in it, unless these are all that the preset has.
        """
        path, preset = layout.features(self.sampler, self.guide), layout.preset
        files.check_writable(path)
        size, device = preset.sampling.judged_at_once, device_of(preset.runtime)
        about = {"sampler": self.sampler, "guide": self.guide} | evaluator.identity(layout)
        for file in layout.targets_and_judges(self.against):
            about[str(file.relative_to(layout.root))] = files.sha256(file)
        tensors, sources = self._others(layout, about)
        extract = evaluator.load_extractor(layout)
        for run in self.runs:
            images, numbers = stored_images.samples(layout, run)
            answers = features_of(images, extract, size, device)
            for guide in self.against:
                each = _statistics(layout, guide, images, extract.classes(answers))
                answers |= {f"{guide}.{name}": values for name, values in each.items()}
            pixels = images.take(torch.arange(len(images)))
            files.write_arrays(layout.archive(run), arr_0=pixels, arr_1=numbers.numpy())
            answers[TARGET] = numbers
            tensors |= {f"{run.method}/{name}": values for name, values in answers.items()}
            sources |= _source(layout, run)
        files.write_tensors(path, tensors, about | sources)

    def _others(self, layout: Layout, about: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Read the features of other methods that the file holds, and what they were made from.

        DataError if they are of other samples than are there now, or of another evaluator.
        """
        path = layout.features(self.sampler, self.guide)
        if not path.exists():
            return {}, {}
        if {run.method for run in group(layout.preset, self.sampler, self.guide)} <= set(self.methods):
            return {}, {}
        tensors, known = files.read_tensors(path), files.read_metadata(path)
        kept = {name: values for name, values in tensors.items() if name.partition("/")[0] not in self.methods}
        sources: dict[str, str] = {}
        for method in sorted({name.partition("/")[0] for name in kept}):
            source = _source(layout, Run(self.sampler, self.guide, method))
            if not (about | source).items() <= known.items():
                reason = f"its features of {method} are of other samples, or of another evaluator"
                raise DataError(f"{path}: {reason}; name {method} too, or delete the file")
            sources |= source
        return kept, sources


def _compared_keys(preset: Preset, guide: str) -> list[str]:
    """List the keys that comparing samples with a guide's targets reads."""
    keys = [*target_keys(preset, guide), *picture_target_keys(preset, guide)]
    if preset.task(guide).of_pictures:
        keys += [f"judges.{judge}.task" for judge in preset.judges]
    judge = preset.judge(guide)
    return keys + (network_keys(preset, judge) if judge else [])


def _source(layout: Layout, run: Run) -> dict[str, str]:
    """Tell a run's features from those of other samples: a hash of all its files."""
    shards = range(len(layout.sample_sizes))
    each = ((layout.finished(layout.samples(run, i)), layout.targets(run, i)) for i in shards)
    digests = "".join(files.sha256(path) for paths in each for path in paths)
    return {f"{run.method}/samples_sha256": hashlib.sha256(digests.encode()).hexdigest()}


def _statistics(layout: Layout, guide: str, images: Images, classes: Tensor | None) -> dict[str, Tensor]:
    """Compare samples with a guide's targets: by its task's judge, or by the classes that the evaluator sees."""
    preset = layout.preset
    if not preset.task(guide).of_pictures:
        return class_statistics(classes, targets.numbers(layout, guide))
    judge = preset.judge(guide)
    if judge is None:
        return {}
    task, network = preset.task_of(guide), networks.load_guide(layout, judge)
    texts, shown = targets.words(layout, guide), targets.read(layout, guide)
    if texts:
        if network.reader is None:
            return {}
        wanted = network.reader(texts)
    elif targets.compared_pictures(task):
        wanted = stored_images.looked_at(layout, judge, shown[PICTURE])
    else:
        wanted = shown[TARGET]
    return picture_statistics(
        images,
        network,
        task,
        wanted,
        targets.numbers(layout, guide),
        preset.sampling.judged_at_once,
        device_of(preset.runtime),
    )
