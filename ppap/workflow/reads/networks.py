"""Keys that decide what a network is: a guide, a judge, the evaluator, the diffusion model; and real images."""

from __future__ import annotations

from ppap.config.preset import Preset
from ppap.data.settings import Download
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils.settings import DATASET, DIFFUSION, EVALUATOR, REFERENCE, keys_of

IMAGE = ["dataset.channels", "dataset.image_size"]
SCHEDULE = ["diffusion.noise_schedule", "diffusion.timesteps"]
_INPUT = ("input_size", "mean", "std")


def network_keys(preset: Preset, name: str) -> list[str]:
    """The keys that building and loading a guide, the evaluator or its classifier reads."""
    own = keys_of(NetworkConfig, preset.key(name))
    return [*own, "dataset.channels", *_outputs(preset, name), *answer_keys(preset, name)]


def _outputs(preset: Preset, name: str) -> list[str]:
    outputs = preset.task(name).outputs
    return [f"dataset.{outputs}"] if outputs else []


def task_key(preset: Preset, name: str) -> list[str]:
    """The key that names the task of a network, if there is one."""
    named = name in preset.guides or name in preset.judges
    return [f"{preset.key(name)}.task"] if named else []


def answer_keys(preset: Preset, name: str) -> list[str]:
    """The keys that the shape of a network's answer depends on."""
    shape = [f"dataset.{key}" for key in preset.task(name).reads]
    return [*task_key(preset, name), *_outputs(preset, name), *shape]


def finished_keys(preset: Preset) -> list[str]:
    """The keys that tell the size of finished images."""
    upsampling = preset.diffusion.source.upsampling
    return [*IMAGE, *([f"diffusion.{upsampling}.image_size"] if upsampling else [])]


def diffusion_keys(preset: Preset) -> list[str]:
    """The keys that building and loading the diffusion network reads."""
    return list(preset.diffusion.source.reads)


def data_keys(preset: Preset) -> list[str]:
    """The keys that reading the real images reads."""
    own = ("kind", *preset.dataset.facts.reads)
    return [f"dataset.{key}" for key in own if key != "path"]


def download_keys(preset: Preset, name: str) -> list[str]:
    """The keys that the download of a network or of data reads."""
    if name == DATASET:
        return ["dataset.name"]
    if name == REFERENCE:
        return reference_keys(preset)
    if name == DIFFUSION:
        files = [keys_of(Download, f"diffusion.{key}") for key in preset.diffusion.downloads]
        return [*preset.diffusion.source.download_reads, *(key for keys in files for key in keys)]
    spec, own = preset.network(name), preset.key(name)
    if spec is None:  # of an evaluator that is no classifier
        return keys_of(Download, f"{EVALUATOR}.weights")
    built = [*keys_of(NetworkConfig, own, *_INPUT), *task_key(preset, name)]
    built += ["dataset.channels", *_outputs(preset, name)]
    if not spec.published:
        return built
    built += [f"{own}.{leaf}" for leaf in spec.library.download_reads]
    return built + (keys_of(Download, f"{own}.weights") if spec.weights else [])


def reference_keys(preset: Preset) -> list[str]:
    """The keys that the download of the images that samples are compared with reads."""
    source = preset.evaluator.compared_with
    assert source is not None
    key = f"{EVALUATOR}.{REFERENCE}"
    if source.archive:
        return keys_of(Download, f"{key}.archive")
    if source.registered:
        return [f"{key}.registered"]
    return [f"{key}.registered", f"{key}.folder", "dataset.image_size"]
