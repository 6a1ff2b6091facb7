"""Keys that decide what is drawn: the reverse process, its guidance, and the targets of samples."""

from __future__ import annotations

from ppap.config.preset import Preset
from ppap.config.runs import Run
from ppap.workflow.reads.experts import bank_keys
from ppap.workflow.reads.networks import IMAGE, SCHEDULE, answer_keys, data_keys, diffusion_keys, network_keys, task_key


def drawing_keys(preset: Preset, sampler: str) -> list[str]:
    """The keys that drawing images with a sampler reads, guidance aside."""
    noise = ["eta"] if preset.sampler(sampler).eta is None else []
    own = [f"samplers.{sampler}.{key}" for key in ("kind", "steps", *noise)]
    denoiser = ["diffusion.variance", "diffusion.predicts", *SCHEDULE, *IMAGE]
    return [*own, *diffusion_keys(preset), *denoiser]


def upsampling_keys(preset: Preset) -> list[str]:
    """The keys that the second stage of a cascade reads to be built, loaded and drawn."""
    source, spec = preset.diffusion.source, preset.diffusion.upsampling
    assert spec is not None
    own = ("image_size", "noise_schedule", "kind", "steps", "temperature")
    noise = ["eta"] if spec.sampler(preset.module_folders).eta is None else []
    keys = [f"diffusion.{source.upsampling}.{key}" for key in (*own, *noise)]
    return [*source.upsampler_reads, *keys, "diffusion.timesteps", "diffusion.variance"]


def run_keys(preset: Preset, sampler: str, guide: str, method: str) -> list[str]:
    """The keys that a run's guidance reads."""
    kind = preset.guidance(method)
    scale = scale_keys(preset, sampler, guide) if kind.guided and kind.drawn else []
    return [*scale, *guiding_keys(preset, guide, method)]


def guiding_keys(preset: Preset, guide: str, method: str) -> list[str]:
    """The keys that loading a run's guide, or its experts, reads."""
    kind = preset.guidance(method)
    keys = [f"methods.{method}.guidance"]
    keys += network_keys(preset, guide) if kind.guided and kind.drawn else []
    return keys + (bank_keys(preset, guide, method) if kind.experts else [])


def scale_keys(preset: Preset, sampler: str, guide: str) -> list[str]:
    """The keys that `Preset.guidance_scale` reads."""
    own = sampler in preset.guides[guide].scales
    return [f"guides.{guide}.scales", *([] if own else [f"samplers.{sampler}.scale"])]


def target_keys(preset: Preset, guide: str) -> list[str]:
    """The keys that the list of the targets of a guide's samples reads, by number."""
    common = ["sampling.samples", "sampling.seeds"]
    if guide in preset.guides:
        common += task_key(preset, guide)
        if preset.task(guide).of_pictures:
            return common
    return [*common, "sampling.classes", "dataset.classes"]


def targets_file_keys(preset: Preset, guide: str) -> list[str]:
    """The keys that making the file of a guide's targets reads, where they are pictures'."""
    own = [f"guides.{guide}.targets.folder", *answer_keys(preset, guide)]
    if preset.guides[guide].targets.folder is None:
        return [*own, f"guides.{guide}.targets.count", *data_keys(preset)]
    return [*own, *IMAGE, *network_keys(preset, guide)]


def shown_keys(preset: Preset, guide: str) -> list[str]:
    """The keys that reading a guide's targets reads, where they are pictures'."""
    return answer_keys(preset, guide) if preset.task(guide).of_pictures else []


def real_keys(preset: Preset, run: Run) -> list[str]:
    """The keys that choosing the real pictures reads that stand in for a run's samples."""
    shown = preset.task(run.guide).of_pictures
    return shown_keys(preset, run.guide) if shown else data_keys(preset)
