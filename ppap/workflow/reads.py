"""The keys of a preset that parts of the work read.

Steps declare the keys of their jobs by these; tests/test_staleness.py records what jobs really read and finds the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ppap.config.preset import Preset
from ppap.config.runs import Learning, Run, computed_runs, drawn_runs, has_warm_start, streams_data, table_runs
from ppap.config.sections import PromptsConfig
from ppap.data.settings import Download
from ppap.diffusion.settings import LatentsConfig
from ppap.experts.settings import AdapterConfig
from ppap.guides.libraries.library import Input
from ppap.guides.libraries.settings import NetworkConfig
from ppap.training.settings import Training
from ppap.utils.settings import DATASET, DIFFUSION, EVALUATOR, REFERENCE, keys_of

IMAGE = ["dataset.channels", "dataset.image_size"]
SCHEDULE = ["diffusion.noise_schedule", "diffusion.timesteps"]
CLEAN = ["clean_images.count", "clean_images.shard_size"]

# -- networks, and real images ---------------------------------------------------------------------


def network_keys(preset: Preset, name: str) -> list[str]:
    own = keys_of(NetworkConfig, preset.key(name))
    return [*own, "dataset.channels", *_outputs(preset, name), *answer_keys(preset, name)]


def _outputs(preset: Preset, name: str) -> list[str]:
    outputs = preset.task(name).outputs
    return [f"dataset.{outputs}"] if outputs else []


def task_key(preset: Preset, name: str) -> list[str]:
    named = name in preset.guides or name in preset.judges
    return [f"{preset.key(name)}.{key}" for key in ("task", "task_options")] if named else []


def answer_keys(preset: Preset, name: str) -> list[str]:
    """List the keys that the shape of a network's answer depends on."""
    shape = [f"dataset.{key}" for key in preset.task(name).reads]
    return [*task_key(preset, name), *_outputs(preset, name), *shape]


def finished_keys(preset: Preset) -> list[str]:
    upsampling = preset.diffusion.source.upsampling
    return [*IMAGE, *([f"diffusion.{upsampling}.image_size"] if upsampling else [])]


def diffusion_keys(preset: Preset) -> list[str]:
    return list(preset.diffusion.source.reads)


def latent_keys(preset: Preset) -> list[str]:
    """List the keys that the autoencoder and the shape of latents read; none where the diffusion model draws pixels."""
    if preset.diffusion.autoencoder:
        return ["diffusion.autoencoder.options", *IMAGE]
    return [*keys_of(LatentsConfig, "diffusion.latents"), *IMAGE] if preset.diffusion.latents else []


def prompt_keys(preset: Preset, section: Literal["clean_images", "sampling"]) -> list[str]:
    """List the keys that say what the diffusion model is told of clean images, or of samples."""
    return keys_of(PromptsConfig, f"{section}.prompts") if getattr(preset, section).prompts else []


def data_keys(preset: Preset) -> list[str]:
    facts = preset.dataset.facts
    return [f"dataset.{key}" for key in ("kind", *(facts.listed_reads if streams_data(preset) else facts.reads))]


def download_keys(preset: Preset, name: str) -> list[str]:
    if name == DATASET:
        return [f"dataset.{key}" for key in preset.dataset.facts.download_reads]
    if name == REFERENCE:
        return reference_keys(preset)
    if name == DIFFUSION:
        files = (key for name in preset.diffusion.downloads for key in keys_of(Download, f"diffusion.{name}"))
        latents = keys_of(LatentsConfig, "diffusion.latents") if preset.diffusion.latents else []
        return [*preset.diffusion.source.download_reads, *latents, *files]
    spec, own = preset.networks.get(name), preset.key(name)
    if spec is None:  # of an evaluator that is no classifier
        return keys_of(Download, f"{EVALUATOR}.weights")
    built = [*keys_of(NetworkConfig, own, *Input._fields), *task_key(preset, name)]
    built += ["dataset.channels", *_outputs(preset, name)]
    if not spec.published:
        return built
    built += [f"{own}.{leaf}" for leaf in spec.library.download_reads]
    return built + (keys_of(Download, f"{own}.weights") if spec.weights else [])


def reference_keys(preset: Preset) -> list[str]:
    source, key = preset.evaluator.compared_with, f"{EVALUATOR}.{REFERENCE}"
    assert source is not None  # or there is none to download
    if source.archive:
        return keys_of(Download, f"{key}.archive")
    if source.registered:
        return [f"{key}.registered"]
    return [f"{key}.registered", f"{key}.folder", "dataset.image_size"]


# -- what is trained -------------------------------------------------------------------------------


def training_keys(prefix: str) -> list[str]:
    """List the keys that an optimisation reads of its section of the preset, augmentation aside."""
    return keys_of(Training, prefix, "shift")


def bank_keys(preset: Preset, guide: str, method: str) -> list[str]:
    """List the keys that tell whether expert files are those of a guide and method."""
    own = [f"methods.{method}.{key}" for key in ("experts", "experts_of", "overrides", *Learning._fields)]
    adapter = [f"guides.{guide}.adapter.{key}" for key in ("rank", "alpha")]
    adapted = preset.methods[method].trainable == "adapter"
    purpose = [f"guides.{guide}.model", *SCHEDULE, *(adapter if adapted else [])]
    return [*own, *not_overridden(preset, method, [*purpose, "experts.allocation"])]


def not_overridden(preset: Preset, method: str, keys: Iterable[str]) -> list[str]:
    """List those of the keys that a method's experts do not have from the method's own `overrides`."""
    return [key for key in keys if key not in preset.methods[method].overrides]


def lesson_keys(preset: Preset, guide: str, learning: Learning) -> list[str]:
    """List the keys that decide what an expert learns: real images with labels, or clean ones with a teacher's answers."""
    seen = [*latent_keys(preset), *([] if preset.diffusion.latent_space else ["dataset.mirror"])]
    if learning.sees == "x0_hat":
        stored = learning.estimates == "stored"
        told = ["clean_images.estimates", "diffusion.variance", "diffusion.predicts"]
        drawn = ["clean_images.seed", *prompt_keys(preset, "clean_images")] if preset.clean_images.prompts else []
        seen += told if stored else [*estimate_keys(preset), *drawn]
    real = [*data_keys(preset), *seen, "experts.held_out", *(CLEAN if learning.view == "linear" else [])]
    if learning.supervision == "labels":
        return real
    loss = [*(f"experts.{key}" for key in preset.task(guide).distils_with), "experts.images"]
    if learning.taught_on == "real":
        return [*real, *loss, *answer_keys(preset, guide)]
    own = [*CLEAN, "clean_images.label_shards", "experts.held_out", *loss]
    return [*own, *IMAGE, *answer_keys(preset, guide), *seen]


def estimate_keys(preset: Preset) -> list[str]:
    own = ["diffusion.variance", "diffusion.predicts", *SCHEDULE, *IMAGE]
    return [*own, *diffusion_keys(preset), *latent_keys(preset)]


def student_keys(preset: Preset, guide: str, trainable: str | None) -> list[str]:
    keys = ["seed", *SCHEDULE, *network_keys(preset, guide)]
    training = training_keys(f"guides.{guide}.experts")
    if trainable == "adapter":
        keys += keys_of(AdapterConfig, f"guides.{guide}.adapter")
        if preset.guides[guide].adapter.learning_rate is not None:
            training.remove(f"guides.{guide}.experts.learning_rate")
    return keys + training


# -- what is drawn ---------------------------------------------------------------------------------


def drawing_keys(preset: Preset, sampler: str) -> list[str]:
    """List the keys that drawing images with a sampler reads, guidance aside."""
    noise = ["eta"] if preset.sampler(sampler).eta is None else []
    own = [f"samplers.{sampler}.{key}" for key in ("kind", "options", "steps", *noise)]
    return [*own, *estimate_keys(preset)]


def upsampling_keys(preset: Preset) -> list[str]:
    """List the keys that the second stage of a cascade reads to be built, loaded and drawn."""
    source, spec = preset.diffusion.source, preset.diffusion.upsampling
    assert spec is not None
    own = ("image_size", "noise_schedule", "kind", "options", "steps", "temperature")
    noise = ["eta"] if spec.sampler(preset.module_folders).eta is None else []
    keys = [f"diffusion.{source.upsampling}.{key}" for key in (*own, *noise)]
    return [*source.upsampler_reads, *keys, "diffusion.timesteps", "diffusion.variance"]


def run_keys(preset: Preset, sampler: str, guide: str, method: str) -> list[str]:
    """List the keys that a run's guidance reads."""
    kind = preset.guidance(method)
    raised = ("objective", *(["objective_options"] if preset.methods[method].objective else []))
    own = [f"methods.{method}.{key}" for key in raised]
    told = [*scale_keys(preset, sampler, guide, method), *own] if kind.guided and kind.drawn else []
    return [*told, *guiding_keys(preset, guide, method)]


def guiding_keys(preset: Preset, guide: str, method: str) -> list[str]:
    kind = preset.guidance(method)
    keys = kind_keys(method)
    keys += network_keys(preset, guide) if kind.guided and kind.drawn else []
    return keys + (bank_keys(preset, guide, method) if kind.experts else [])


def kind_keys(method: str) -> list[str]:
    return [f"methods.{method}.guidance", f"methods.{method}.options"]


def scale_keys(preset: Preset, sampler: str, guide: str, method: str | None = None) -> list[str]:
    """List the keys that `ppap.config.guidance_scales` reads."""
    if method is not None:
        own = [f"methods.{method}.scales"]
        return own if guide in preset.methods[method].scales else [*own, *scale_keys(preset, sampler, guide)]
    of_guide = sampler in preset.guides[guide].scales
    return [f"guides.{guide}.scales", *([] if of_guide else [f"samplers.{sampler}.scale"])]


def target_keys(preset: Preset, guide: str) -> list[str]:
    """List the keys that the list of the targets of a guide's samples reads, by number."""
    common = ["sampling.samples", "sampling.seeds", *task_key(preset, guide)]
    if guide in preset.guides and preset.task(guide).of_pictures:
        return common
    return [*common, "sampling.classes", "dataset.classes"]


def picture_target_keys(preset: Preset, guide: str) -> list[str]:
    """List the keys that reading a guide's targets reads, where they are pictures'."""
    return answer_keys(preset, guide) if preset.task(guide).of_pictures else []


# -- what is said of images ------------------------------------------------------------------------


def evaluator_keys(preset: Preset) -> list[str]:
    """List the keys that the evaluator reads to judge images."""
    judge = preset.evaluator
    own = [f"{EVALUATOR}.kind", *(f"{EVALUATOR}.{key}" for key in judge.reads)]
    own += ["dataset.classes"] if judge.counts_classes else []
    return own + [key for name in judge.networks for key in network_keys(preset, name)]


# -- tables and figures ----------------------------------------------------------------------------


def rows_keys(preset: Preset, table: str) -> list[str]:
    """List the keys that tell which rows of a table are computed."""
    methods = [] if preset.supervised else [run.method for run in table_runs(preset, table)]
    return [f"tables.{table}", "supervised", *(f"methods.{method}.supervision" for method in methods)]


def shown_keys(preset: Preset, table: str) -> list[str]:
    """List the keys that tell a table's rows, their names, and what they are measured by."""
    keys = [*rows_keys(preset, table), "sampling.samples", "sampling.seeds"]
    for run in table_runs(preset, table):
        keys += [*kind_keys(run.method), *title_keys([run]), *task_key(preset, run.guide)]
    return keys


def values_keys(preset: Preset, table: str) -> list[str]:
    """List the keys that the values in a table depend on."""
    keys = [*shown_keys(preset, table), *(f"guides.{run.guide}.stands_for" for run in table_runs(preset, table))]
    for run in computed_runs(preset, table):
        if preset.guidance(run.method).experts:
            keys += [*bank_keys(preset, run.guide, run.method), f"methods.{run.method}.imported"]
            trained = [f"guides.{run.guide}.experts.steps", "experts.warm_start"]
            trained += ["experts.warm_share"] if has_warm_start(preset, run.method) else []
            keys += not_overridden(preset, run.method, trained)
    return keys


def note_keys(preset: Preset, table: str) -> list[str]:
    """List the keys that a table's note tells: guidance scales, and whether printed values may stand beside."""
    runs = table_runs(preset, table)
    own = [(f"samplers.{r.sampler}.scale", f"guides.{r.guide}.scales", f"methods.{r.method}.scales") for r in runs]
    return [*(key for keys in own for key in keys), "dataset.image_size", "dataset.classes"]


def drawn_keys(preset: Preset, guide: str) -> list[str]:
    """List the keys that tell which runs of a guide figures show, and which of them have guidance."""
    methods = (run.method for run in drawn_runs(preset, guide))
    own = [*rows_keys(preset, "main"), "figures.sampler"]
    return own + [key for method in methods for key in kind_keys(method)]


def study_keys(preset: Preset, table: str) -> list[str]:
    """List the keys that a table's values over all replicates depend on, scales and evaluations of networks among them."""
    runs = table_runs(preset, table)
    steps = [f"samplers.{name}.{key}" for name in {run.sampler for run in runs} for key in ("kind", "options", "steps")]
    scales = [key for run in runs if preset.guidance(run.method).guided for key in scale_keys(preset, *run)]
    return [*shown_keys(preset, table), *steps, *SCHEDULE, *scales, *replicate_keys(preset)]


def replicate_keys(preset: Preset) -> list[str]:
    """List the keys that say which replicates there are."""
    return ["replicates", *(["seed"] if preset.replicates else [])]


def title_keys(runs: Iterable[Run]) -> list[str]:
    return [f"methods.{run.method}.title" for run in runs]
