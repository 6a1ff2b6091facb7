"""Leaf keys that parts of the work read: of networks, data, trainings and target classes.

Steps declare the keys of their jobs by these; a test records what jobs really read and finds the same.
"""

from __future__ import annotations

from ppap.preset.base import CLASSIFIER, DATASET, DIFFUSION, EVALUATOR, REFERENCE
from ppap.preset.networks import InceptionEvaluator
from ppap.preset.preset import Preset
from ppap.preset.runs import (
    computed_runs,
    drawn_runs,
    guided_runs,
    has_warm_start,
    heard_runs,
    main_guides,
    needs_data,
    table_runs,
)

IMAGE = ["dataset.channels", "dataset.image_size"]
SCHEDULE = ["diffusion.noise_schedule", "diffusion.timesteps"]
CLEAN = ["clean_images.count", "clean_images.shard_size"]
_DOWNLOAD = ("url", "sha256", "file")


def network_keys(preset: Preset, name: str) -> list[str]:
    """What building a guide, the evaluator or its classifier reads; its weights come from a file."""
    own = ("model", "options", "input_size", "mean", "std")
    return [f"{preset.key(name)}.{key}" for key in own] + ["dataset.channels", "dataset.classes"]


def diffusion_keys(preset: Preset) -> list[str]:
    """What building the diffusion network reads."""
    architecture = preset.diffusion.architecture
    own = () if architecture is None else type(architecture).model_fields
    return [f"diffusion.architecture.{key}" for key in own]


def denoiser_keys(preset: Preset, sampler: str) -> list[str]:
    """What the diffusion model on a sampler's schedule reads."""
    own = [f"samplers.{sampler}.kind", f"samplers.{sampler}.steps"]
    network = [*diffusion_keys(preset), "diffusion.pipeline"]
    return [*own, *network, *SCHEDULE, "diffusion.variance"]


def drawing_keys(preset: Preset, sampler: str) -> list[str]:
    """What drawing images with a sampler reads, guidance aside."""
    own = [f"samplers.{sampler}.{key}" for key in preset.sampler(sampler).reads]
    return [*denoiser_keys(preset, sampler), *own, *IMAGE]


def training_keys(prefix: str) -> list[str]:
    """What an optimisation reads of its section of the preset."""
    own = ("steps", "batch_size", "learning_rate", "weight_decay", "warmup", "decay", "ema", "clip")
    return [f"{prefix}.{key}" for key in own]


def data_keys(preset: Preset) -> list[str]:
    """What loading the real images reads."""
    if preset.dataset.kind == "image_folder":
        return ["dataset.kind", "dataset.classes", "dataset.image_size"]
    found = ["dataset.kind", "dataset.holdout"]
    return found + ([*IMAGE, "dataset.classes"] if preset.dataset.kind == "registered" else [])


def target_keys() -> list[str]:
    """What the list of the classes that samples are guided to reads."""
    return ["sampling.samples", "sampling.seeds", "sampling.classes", "dataset.classes"]


def download_keys(preset: Preset, name: str) -> list[str]:
    """What the download of a network or of data reads."""
    if name == DATASET:
        return ["dataset.name"]
    if name == REFERENCE:
        return reference_keys(preset)
    if name == DIFFUSION:
        if preset.diffusion.pipeline:
            return ["diffusion.pipeline", *IMAGE, *SCHEDULE, "diffusion.variance"]
        return [*diffusion_keys(preset), *(f"diffusion.weights.{key}" for key in _DOWNLOAD)]
    spec = preset.network(name)
    if spec is None:  # an evaluator's weights alone
        return [f"{EVALUATOR}.weights.{key}" for key in _DOWNLOAD]
    key = preset.key(name)
    own = [f"{key}.model", f"{key}.options", "dataset.channels", "dataset.classes"]
    return own + [f"{key}.weights.{part}" for part in _DOWNLOAD if spec.weights]


def reference_keys(preset: Preset) -> list[str]:
    source = preset.evaluator.reference  # type: ignore[union-attr]
    if source.archive:
        return [f"{EVALUATOR}.reference.archive.{key}" for key in _DOWNLOAD]
    if source.registered:
        return [f"{EVALUATOR}.reference.registered"]
    return [
        f"{EVALUATOR}.reference.registered",
        f"{EVALUATOR}.reference.folder",
        "dataset.image_size",
    ]


def run_keys(preset: Preset, sampler: str, guide: str, method: str) -> list[str]:
    """What a run's guidance reads."""
    kind = preset.guidance(method)
    found = [f"methods.{method}.{key}" for key in ("guidance", *kind.reads)]
    if kind.guided:
        found += [f"samplers.{sampler}.scale", *network_keys(preset, guide)]
    return found + (bank_keys(preset, guide, method) if kind.experts else [])


def bank_keys(preset: Preset, guide: str, method: str) -> list[str]:
    """What tells whether expert files are those of a guide and method."""
    own = [f"methods.{method}.{key}" for key in ("experts", "supervision", "trainable")]
    return [*own, *purpose_keys(preset, guide, method), "experts.allocation"]


def purpose_keys(preset: Preset, guide: str, method: str) -> list[str]:
    adapter = [f"guides.{guide}.adapter.{key}" for key in ("rank", "alpha")]
    adapted = preset.methods[method].trainable == "adapter"
    return [f"guides.{guide}.model", *SCHEDULE, *(adapter if adapted else [])]


def lesson_keys(preset: Preset, supervision: str) -> list[str]:
    """What an expert's lessons read: real images with labels, or clean ones with a teacher's answers."""
    if supervision == "labels":
        return [*data_keys(preset), "dataset.mirror"]
    own = [*CLEAN, "clean_images.label_shards", "experts.tau", "experts.reduction"]
    return [*own, *IMAGE, "dataset.classes", "dataset.mirror"]


def student_keys(preset: Preset, guide: str, trainable: str) -> list[str]:
    """What the training of an expert of a guide reads, lessons aside."""
    found = ["seed", *SCHEDULE, *network_keys(preset, guide)]
    training = training_keys(f"guides.{guide}.experts")
    if trainable == "adapter":
        own = ("rank", "alpha", "layers", "train", "freeze", "learning_rate")
        found += [f"guides.{guide}.adapter.{key}" for key in own]
        if preset.guides[guide].adapter.learning_rate is not None:
            training.remove(f"guides.{guide}.experts.learning_rate")
    return found + training


def evaluator_keys(preset: Preset) -> list[str]:
    """What the evaluator's networks read."""
    if not isinstance(preset.evaluator, InceptionEvaluator):
        return network_keys(preset, EVALUATOR)
    return network_keys(preset, CLASSIFIER) if preset.evaluator.classifier else []


def reference_data_keys(preset: Preset) -> list[str]:
    """What reading the real images reads that samples are compared with."""
    return [] if isinstance(preset.evaluator, InceptionEvaluator) else data_keys(preset)


def rows_keys(preset: Preset, table: str) -> list[str]:
    """What tells which rows of a table are computed."""
    if preset.supervised:
        return [f"tables.{table}", "supervised"]
    methods = (run.method for run in table_runs(preset, table))
    return [f"tables.{table}", "supervised", *(f"methods.{m}.supervision" for m in methods)]


def values_keys(preset: Preset, table: str) -> list[str]:
    """What the values in a table read."""
    found = [*rows_keys(preset, table), "sampling.samples", "sampling.seeds"]
    for run in table_runs(preset, table):
        found += [f"methods.{run.method}.guidance", f"guides.{run.guide}.stands_for"]
    for run in computed_runs(preset, table):
        if preset.guidance(run.method).experts:
            found += [*bank_keys(preset, run.guide, run.method), f"methods.{run.method}.imported"]
            found += [f"guides.{run.guide}.experts.steps", "experts.warm_start"]
            if has_warm_start(preset, preset.methods[run.method]):
                found.append("experts.warm_share")
    return found


def table_keys(preset: Preset, table: str) -> list[str]:
    """What a table reads: its values, and what its note says."""
    scales = [f"samplers.{sampler}.scale" for sampler in preset.samplers]
    return [*values_keys(preset, table), *scales, *printed_keys()]


def printed_keys() -> list[str]:
    """What tells whether images and judge are those of the paper's printed values."""
    return ["dataset.kind", "dataset.image_size", "dataset.classes"]


def drawn_keys(preset: Preset, guide: str) -> list[str]:
    """What tells which runs of a guide figures show, and which of them have guidance."""
    methods = (run.method for run in drawn_runs(preset, guide))
    own = [*rows_keys(preset, "main"), "figures.sampler"]
    return own + [f"methods.{method}.guidance" for method in methods]


def samples_figure_keys(preset: Preset, guide: str) -> list[str]:
    """What a figure of samples reads."""
    shown = [*target_keys(), *IMAGE, "sampling.shard_size", "dataset.class_names"]
    return [*drawn_keys(preset, guide), *shown]


def metrics_figure_keys(preset: Preset, _: str) -> list[str]:
    return values_keys(preset, "main")


def confidence_figure_keys(preset: Preset, _: str) -> list[str]:
    """What the figure of the guides' confidence reads."""
    guides = main_guides(preset)
    runs = [run for guide in guides for run in heard_runs(preset, guide)]
    own = ["figures.samples", "sampling.seeds", "sampling.classes", "dataset.classes"]
    own += [key for guide in guides for key in drawn_keys(preset, guide)]
    own += drawing_keys(preset, preset.figures.sampler)
    return own + [key for run in runs for key in run_keys(preset, *run)]


def gradients_figure_keys(preset: Preset, _: str) -> list[str]:
    """What the figure of guidance gradients reads."""
    guide = main_guides(preset)[0]
    own = [*drawn_keys(preset, guide), "figures.target_class", "figures.timesteps"]
    own += [*denoiser_keys(preset, preset.figures.sampler), "dataset.class_names"]
    own += data_keys(preset) if needs_data(preset) else [*IMAGE, *CLEAN]
    return own + [key for run in guided_runs(preset, guide) for key in run_keys(preset, *run)]
