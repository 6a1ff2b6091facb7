"""The layout of a preset's files: where each lies, under results/PRESET and scratch/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ppap.config.preset import Preset
from ppap.config.replicates import replicate
from ppap.config.runs import (
    Learning,
    Run,
    computed_runs,
    expert_owner,
    external_models,
    has_warm_start,
    knows_truth,
    needs_data,
    shared_start,
    stored_as,
    streams_data,
    trained_models,
    warm_name,
)
from ppap.utils.errors import ConfigError
from ppap.utils.settings import AUTOENCODER, CLASSIFIER, DATASET, DIFFUSION, EVALUATOR, JUDGES, REFERENCE, UNGUIDED

Index = int | str
"""A number in a file's name, or the wildcard that stands for one in a rule: "{shard}"."""


def shard_sizes(total: int, shard_size: int) -> list[int]:
    """Return the number of images in each shard; the last one holds what is left."""
    full, rest = divmod(total, shard_size)
    return [shard_size] * full + [rest] * (rest > 0)


def size_of(sizes: list[int], index: int, what: str = "shard") -> int:
    """Return the size of one of these shards, or parts; ConfigError if there is none such."""
    if not 0 <= index < len(sizes):
        raise ConfigError(f"no {what} {index}: there are {len(sizes)}, counted from 0")
    return sizes[index]


def _shard_name(index: Index) -> str:
    return f"{index:04d}" if isinstance(index, int) else index


@dataclass(frozen=True)
class Layout:
    """The places of a preset's files: `root` (results/PRESET), `scratch` (unfinished work), `downloads` (of others)."""

    preset: Preset
    results: Path = Path("results")
    scratch: Path = Path("scratch")
    downloads: Path = Path("downloads")

    @cached_property
    def root(self) -> Path:
        return self.results / self.preset.name

    @property
    def runs(self) -> list[Layout]:
        """The layouts of a preset's replicates: its own first, then those with other seeds."""
        others = (number for number in self.preset.replicates if number != self.preset.seed)
        return [self, *(replace(self, preset=replicate(self.preset, number)) for number in others)]

    @cached_property
    def _shared(self) -> list[str]:
        """The networks, data and methods of others, which a replicate takes from the preset's own run."""
        if not self.preset.is_replicate:
            return []
        imported = (f"methods.{name}" for name, spec in self.preset.methods.items() if spec.imported)
        return [*external_models(self.preset), *imported]

    def trained_for(self, method: str) -> Layout:
        """Return the layout of the preset as the experts of a method have it (`Preset.trained_for`)."""
        return replace(self, preset=self.preset.trained_for(method))

    def _root_of(self, name: str) -> Path:
        return self.results / self.preset.original if name in self._shared else self.root

    def checkpoint(self, output: Path) -> Path:
        """Return where the job that makes `output` keeps its unfinished work: a place of its own."""
        made = self.scratch / output.relative_to(self.results)
        return made.with_name(f"{made.name}.ckpt")

    @property
    def compiled(self) -> Path:
        """The folder of what torch has compiled of networks, for all presets."""
        return self.scratch / "compiled"

    def log(self, job: str) -> Path:
        return self.root / "logs" / f"{job}.log"

    def benchmark(self, job: str) -> Path:
        return self.root / "benchmarks" / f"{job}.tsv"

    def stage(self, name: str) -> Path:
        """Return the file of what a stage depends on beside its files, for DVC."""
        return self.root / "stages" / f"{name}.json"

    def model(self, name: str) -> Path:
        """Return the file of a network or of external data; a rule's name "{model}" has a wildcard for the folder too.

        What judges samples lies in a folder of its own, which under DVC only the evaluation depends on.
        """
        judge = name in JUDGES or name in self.preset.judges
        folder = "{folder}" if name.startswith("{") else "judges" if judge else "models"
        return self._root_of(name) / folder / f"{name}.safetensors"

    @property
    def clean_sizes(self) -> list[int]:
        return shard_sizes(self.preset.clean_images.count, self.preset.clean_images.shard_size)

    @property
    def sample_sizes(self) -> list[int]:
        return shard_sizes(self.preset.sampling.total, self.preset.sampling.shard_size)

    def clean(self, shard: Index) -> Path:
        return self.root / "clean" / f"{_shard_name(shard)}.npy"

    def estimates(self, shard: Index) -> Path:
        return self.root / "clean" / "estimates" / f"{_shard_name(shard)}.npy"

    def upsampled(self, images: Path) -> Path:
        """Return the shard that a cascade's second stage makes of a shard of images."""
        return images.parent / "upsampled" / images.name

    def finished(self, images: Path) -> Path:
        """Return the finished images of a shard: upsampled ones in a cascade, else the shard itself."""
        return self.upsampled(images) if self.preset.diffusion.upsampling else images

    @property
    def label_sizes(self) -> list[int]:
        """Number of images that each file of labels holds the answers for."""
        clean = self.preset.clean_images
        return shard_sizes(clean.count, clean.shard_size * clean.label_shards)

    def labels(self, guide: str, part: Index) -> Path:
        return self.root / "labels" / guide / f"{_shard_name(part)}.safetensors"

    def picture_targets(self, guide: str) -> Path:
        """Return the targets of a guide's samples, where they are what pictures show."""
        return self.root / "labels" / guide / "targets.safetensors"

    def expert(self, guide: str, method: str, expert: Index) -> Path:
        return self._root_of(f"methods.{method}") / "experts" / guide / method / f"expert_{expert}.safetensors"

    def warm(self, guide: str, name: str) -> Path:
        return self.root / "experts" / guide / f"{name}.safetensors"

    def experts(self, guide: str, method: str) -> list[Path]:
        count, owner = self.preset.methods[method].experts or 0, expert_owner(self.preset, method)
        return [self.expert(guide, owner, number) for number in range(1, count + 1)]

    def samples(self, run: Run, shard: Index) -> Path:
        return self.root / "samples" / Path(*run) / f"{_shard_name(shard)}.npy"

    def targets(self, run: Run, shard: Index) -> Path:
        """Return the file of a shard's targets, by number: classes, or places in the file of the guide's targets."""
        return self.samples(run, shard).with_suffix(".safetensors")

    def archives(self, sampler: str, guide: str) -> Path:
        return self.root / "archives" / sampler / guide

    def archive(self, run: Run) -> Path:
        """Return the file of all samples of a run, in the format of ADM's evaluator."""
        return self.archives(run.sampler, run.guide) / f"{run.method}.npz"

    def features(self, sampler: str, guide: str) -> Path:
        """Return the file of the features of all methods' samples."""
        return self.root / "features" / sampler / f"{guide}.safetensors"

    @property
    def reference(self) -> Path:
        return self.root / "features" / "reference.safetensors"

    def metrics(self, sampler: str, guide: str) -> Path:
        return self.root / "metrics" / sampler / f"{guide}.json"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    def table(self, name: str, suffix: str, folder: str = "tables") -> Path:
        """Return a table's file; the folder `study` has those over all replicates."""
        return self.root / folder / f"{name}.{suffix}"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    def figure(self, name: str) -> Path:
        return self.figures / f"{name}.png"

    def figure_in_print(self, name: str) -> Path:
        """Return the same figure as PDF: apart, since DVC shows what lies in `figures`."""
        return self.root / "pdf" / f"{name}.pdf"

    # -- what jobs read --------------------------------------------------------------------------

    @property
    def dataset(self) -> list[Path]:
        """The file of real images, where they are downloaded into one."""
        return [self.model(DATASET)] if DATASET in external_models(self.preset) else []

    @property
    def autoencoder(self) -> list[Path]:
        """The file of a latent diffusion model's autoencoder, a pipeline's own or one of itself; none of another one."""
        if self.preset.diffusion.autoencoder:
            return [self.model(AUTOENCODER)]
        return [self.model(DIFFUSION)] if self.preset.diffusion.latents else []

    @property
    def drawing(self) -> list[Path]:
        """The networks that draw pictures: the diffusion model, and what decodes its latents."""
        return list(dict.fromkeys([self.model(DIFFUSION), *self.autoencoder]))

    @property
    def reference_images(self) -> list[Path]:
        """The file of real images that samples are compared with, if there is one."""
        return [self.model(REFERENCE)] if REFERENCE in external_models(self.preset) else self.dataset

    @property
    def evaluator(self) -> list[Path]:
        """The evaluator's networks."""
        networks = [*trained_models(self.preset), *external_models(self.preset)]
        return [self.model(name) for name in (EVALUATOR, CLASSIFIER) if name in networks]

    def targets_and_judges(self, guides: Sequence[str]) -> list[Path]:
        """List what samples are compared with for these guides: targets, by the judges of the guides' tasks."""
        judges = (self.preset.judge(guide) for guide in guides)
        targets = [path for guide in guides for path in self.target_file(guide)]
        return [*targets, *(self.model(judge) for judge in judges if judge)]

    def target_file(self, guide: str) -> list[Path]:
        """List the file of the guide's targets; none where they are classes, whose numbers say all."""
        of_pictures = guide != UNGUIDED and self.preset.task(guide).of_pictures
        return [self.picture_targets(guide)] if of_pictures else []

    def shards_of_part(self, part: int) -> range:
        each = self.preset.clean_images.label_shards
        return range(len(self.clean_sizes))[part * each :][:each]

    @property
    def process(self) -> list[Path]:
        """The file that says how noise grows, where the preset does not."""
        return [self.model(DIFFUSION)] if self.preset.diffusion.source.knows_process else []

    def examples(self, guide: str, learning: Learning) -> list[Path]:
        """List what experts learn from: real images, or clean ones with the teacher's labels, noise, and what they see."""
        stored = learning.estimates == "stored"
        seen = [self.model(DIFFUSION)] if learning.sees == "x0_hat" and not stored else self.process
        seen = [
            *dict.fromkeys([*seen, *self.autoencoder]),
            *(map(self.estimates, range(len(self.clean_sizes))) if stored else []),
        ]
        if learning.real:
            return [*self.dataset, *seen, *([self.clean(0)] if learning.view == "linear" else [])]
        labels = [self.labels(guide, part) for part in range(len(self.label_sizes))]
        return [*self._clean_shards, *labels, *seen]

    @cached_property
    def _clean_shards(self) -> list[Path]:
        """The shards of clean images, listed once: at the paper's scale each of many experts has thousands."""
        return [self.clean(shard) for shard in range(len(self.clean_sizes))]

    def initialisation(self, guide: str, method: str, expert: int) -> list[Path]:
        """List the expert that this one starts from, if any: the shared start, or the one before it."""
        if has_warm_start(self.preset, method):
            return [self.warm(guide, warm_name(shared_start(self.preset, method)))]
        if self.preset.trained_for(method).experts.warm_start == "sequential" and expert > 1:
            return [self.expert(guide, method, expert - 1)]
        return []

    def guide_and_experts(self, run: Run) -> list[Path]:
        return [self.model(run.guide), *self.experts(run.guide, run.method)]

    def guidance(self, run: Run) -> list[Path]:
        """List what guides a run: networks, and the file of targets; nothing where it has no guidance."""
        kind = self.preset.guidance(run.method)
        if not (kind.guided and kind.drawn):
            return []
        return [*self.guide_and_experts(run), *self.target_file(run.guide)]

    def class_names(self, guide: str) -> list[Path]:
        """List the files that may name the classes a guide is about, where the preset does not."""
        if self.preset.task(guide).of_pictures or self.preset.dataset.class_names:
            return []
        return [self.model(guide), *self.dataset]

    def table_inputs(self, table: str) -> list[Path]:
        """List the metrics of a table's rows, and their experts."""
        runs = computed_runs(self.preset, table)
        stored = [stored_as(self.preset, run) for run in runs]
        metrics = [self.metrics(run.sampler, run.guide) for run in stored]
        experts = [path for run in runs for path in self.experts(run.guide, run.method)]
        return list(dict.fromkeys([*metrics, *experts]))

    def study_inputs(self, table: str) -> list[Path]:
        """List the metrics of a table's rows in every replicate."""
        stored = [stored_as(self.preset, run) for run in computed_runs(self.preset, table)]
        return list(dict.fromkeys(run.metrics(row.sampler, row.guide) for run in self.runs for row in stored))

    def knows_truth(self, guide: str) -> bool:
        """Say whether there are held-out real images with truths for the guide's task."""
        return knows_truth(self.preset, guide) and needs_data(self.preset) and not streams_data(self.preset)
