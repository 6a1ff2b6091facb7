"""The layout of a preset's files: where each lies, under results/PRESET and scratch/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ppap.preset import JUDGES, Preset
from ppap.preset.runs import Run


def model_kind(name: str) -> str:
    """The folder of a network or of external data: what samples are judged by lies apart.

    So that, under DVC, another evaluator makes nothing stale but the evaluation.
    """
    return "judges" if name in JUDGES else "models"


def shard_sizes(total: int, shard_size: int) -> list[int]:
    """Number of images in each shard; the last one holds what is left."""
    full, rest = divmod(total, shard_size)
    return [shard_size] * full + [rest] * (rest > 0)


def shard_name(index: int) -> str:
    return f"{index:04d}"


@dataclass(frozen=True)
class Layout:
    """Where a preset's files lie, under `root` (results/PRESET) and `scratch` (unfinished work)."""

    preset: Preset
    results: Path = Path("results")
    scratch: Path = Path("scratch")

    @property
    def root(self) -> Path:
        return self.results / self.preset.name

    def checkpoint(self, output: Path) -> Path:
        """Where the job that makes `output` keeps its unfinished work: a place of its own."""
        made = self.scratch / output.relative_to(self.results)
        return made.with_name(f"{made.name}.ckpt")

    def phase(self, name: str) -> Path:
        return self.root / "phases" / f"{name}.json"

    def model(self, name: str) -> Path:
        return self.root / model_kind(name) / f"{name}.safetensors"

    @property
    def clean_sizes(self) -> list[int]:
        return shard_sizes(self.preset.clean_images.count, self.preset.clean_images.shard_size)

    @property
    def sample_sizes(self) -> list[int]:
        return shard_sizes(self.preset.sampling.total, self.preset.sampling.shard_size)

    def clean(self, shard: int) -> Path:
        return self.root / "clean" / f"{shard_name(shard)}.npy"

    @property
    def label_sizes(self) -> list[int]:
        """Number of images that each file of labels holds the answers for."""
        clean = self.preset.clean_images
        return shard_sizes(clean.count, clean.shard_size * clean.label_shards)

    def labels(self, guide: str, part: int) -> Path:
        return self.root / "labels" / guide / f"{shard_name(part)}.safetensors"

    def expert(self, guide: str, method: str, part: int) -> Path:
        return self.root / "experts" / guide / method / f"expert_{part}.safetensors"

    def warm(self, guide: str, name: str) -> Path:
        return self.root / "experts" / guide / f"{name}.safetensors"

    def experts(self, guide: str, method: str) -> list[Path]:
        count = self.preset.methods[method].experts or 0
        return [self.expert(guide, method, part) for part in range(1, count + 1)]

    def samples(self, run: Run, shard: int) -> Path:
        return self.root / "samples" / Path(*run) / f"{shard_name(shard)}.npy"

    def archive(self, run: Run) -> Path:
        """All samples of a run in the format of ADM's evaluator."""
        return self.root / "archives" / Path(*run).with_suffix(".npz")

    def features(self, sampler: str, guide: str) -> Path:
        """The features of all methods' samples."""
        return self.root / "features" / sampler / f"{guide}.safetensors"

    @property
    def reference(self) -> Path:
        return self.root / "features" / "reference.safetensors"

    def metrics(self, sampler: str, guide: str) -> Path:
        return self.root / "metrics" / sampler / f"{guide}.json"

    def table(self, name: str, suffix: str) -> Path:
        return self.root / "tables" / f"{name}.{suffix}"

    def figure(self, name: str) -> Path:
        return self.root / "figures" / f"{name}.png"
