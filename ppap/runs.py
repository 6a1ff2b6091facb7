"""What a preset consists of: guided runs and expert files, and where each file lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ppap.config import (
    CLASSIFIER,
    DATASET,
    DIFFUSION,
    EVALUATOR,
    JUDGES,
    REFERENCE,
    UNGUIDED,
    Config,
    InceptionEvaluator,
    MethodConfig,
)

WARM = "warm"


class Run(NamedTuple):
    """One guided sample set. A run without guidance has the guide `unguided`."""

    sampler: str
    guide: str
    method: str


class ExpertJob(NamedTuple):
    """One expert's training. `part` is 1 to N, or "warm" for the shared start."""

    guide: str
    method: str
    part: str


def table_runs(config: Config, table: str) -> list[Run]:
    """The table's rows: guide by guide, sampler by sampler, method by method."""
    return [
        Run(sampler, guide, method)
        for grid in config.tables[table]  # type: ignore[index]
        for guide in grid.guides
        for sampler in grid.samplers
        for method in grid.methods
    ]


def computed_runs(config: Config, *tables: str) -> list[Run]:
    """The rows of these tables that are computed: all, but for the supervised ones if those are left out."""
    rows = (run for table in tables for run in table_runs(config, table))
    return [run for run in rows if config.computed(run.method)]


def stored_as(config: Config, run: Run) -> Run:
    """The run that holds a row's samples: without guidance, all guides share one."""
    unguided = config.methods[run.method].guidance == "none"
    return run._replace(guide=UNGUIDED) if unguided else run


def all_runs(config: Config) -> list[Run]:
    """Every sample set that the preset computes, each once."""
    rows = computed_runs(config, *config.tables)
    return list(dict.fromkeys(stored_as(config, run) for run in rows))


def group(config: Config, sampler: str, guide: str) -> list[Run]:
    """The runs with this sampler and guide, in an order that the preset's does not change."""
    return sorted(run for run in all_runs(config) if (run.sampler, run.guide) == (sampler, guide))


def used_guides(config: Config) -> list[str]:
    """Guides that appear in a run, each once."""
    return list(dict.fromkeys(run.guide for run in all_runs(config) if run.guide != UNGUIDED))


def taught_guides(config: Config) -> list[str]:
    """Guides that teach: their answers on the clean images are what experts learn."""
    methods = config.methods
    runs = (run for run in all_runs(config) if methods[run.method].supervision == "teacher")
    return list(dict.fromkeys(run.guide for run in runs))


def trained_models(config: Config) -> list[str]:
    """Networks that the workflow trains on real images (`ppap pretrain`)."""
    names = (DIFFUSION, EVALUATOR, CLASSIFIER, *used_guides(config))
    return [name for name in names if config.training(name) is not None]


def external_models(config: Config) -> list[str]:
    """Networks and data that come from elsewhere (`ppap download`)."""
    needed = [DIFFUSION, EVALUATOR, *used_guides(config)]
    if isinstance(config.evaluator, InceptionEvaluator):
        needed += [REFERENCE] + [CLASSIFIER] * (config.evaluator.classifier is not None)
    if config.dataset.kind == "registered" and needs_data(config):
        needed.append(DATASET)
    trained = trained_models(config)
    return [name for name in needed if name not in trained]


def model_kind(name: str) -> str:
    """The folder of a network or of external data: what samples are judged by lies apart.

    So that, under DVC, another evaluator makes nothing stale but the evaluation.
    """
    return "judges" if name in JUDGES else "models"


def needs_data(config: Config) -> bool:
    """Whether anything is trained on the real images, or compared with them."""
    taught = any(config.methods[run.method].supervision == "labels" for run in all_runs(config))
    judged = not isinstance(config.evaluator, InceptionEvaluator)
    return taught or judged or bool(trained_models(config))


def warm_name(method: MethodConfig) -> str:
    """The shared start of all methods that learn the same parameters from the same supervision."""
    return f"{WARM}_{method.supervision}_{method.trainable}"


def has_warm_start(config: Config, method: MethodConfig) -> bool:
    several = (method.experts or 0) > 1
    return config.experts.warm_start == "shared" and several and not method.imported


def expert_steps(config: Config, guide: str, method: MethodConfig) -> tuple[int, int]:
    """Steps of the shared start, and of each expert; their sum over the row is its total."""
    total = config.guides[guide].experts.steps
    warm = round(config.experts.warm_share * total) if has_warm_start(config, method) else 0
    return warm, (total - warm) // (method.experts or 1)


def figure_names(config: Config) -> list[str]:
    """The figures of the preset."""
    guides = main_guides(config)
    return [*(f"samples_{guide}" for guide in guides), "metrics", "confidence", "gradients"]


def main_guides(config: Config) -> list[str]:
    """The guides of the main table."""
    return list(dict.fromkeys(run.guide for run in table_runs(config, "main")))


def shard_sizes(total: int, shard_size: int) -> list[int]:
    """Number of images in each shard; the last one holds what is left."""
    full, rest = divmod(total, shard_size)
    return [shard_size] * full + [rest] * (rest > 0)


def shard_name(index: int) -> str:
    return f"{index:04d}"


@dataclass(frozen=True)
class Layout:
    """Where a preset's files lie, under `root` (results/PRESET) and `scratch` (unfinished work)."""

    config: Config
    results: Path = Path("results")
    scratch: Path = Path("scratch")

    @property
    def root(self) -> Path:
        return self.results / self.config.preset

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
        return shard_sizes(self.config.clean_images.count, self.config.clean_images.shard_size)

    @property
    def sample_sizes(self) -> list[int]:
        return shard_sizes(self.config.sampling.total, self.config.sampling.shard_size)

    def clean(self, shard: int) -> Path:
        return self.root / "clean" / f"{shard_name(shard)}.npy"

    @property
    def label_sizes(self) -> list[int]:
        """Number of images that each file of labels holds the answers for."""
        clean = self.config.clean_images
        return shard_sizes(clean.count, clean.shard_size * clean.label_shards)

    def labels(self, guide: str, part: int) -> Path:
        return self.root / "labels" / guide / f"{shard_name(part)}.safetensors"

    def expert(self, guide: str, method: str, part: int) -> Path:
        return self.root / "experts" / guide / method / f"expert_{part}.safetensors"

    def warm(self, guide: str, name: str) -> Path:
        return self.root / "experts" / guide / f"{name}.safetensors"

    def experts(self, guide: str, method: str) -> list[Path]:
        count = self.config.methods[method].experts or 0
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
