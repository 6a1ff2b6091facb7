"""Which parts of a preset decide what a job makes, beside the job's input files.

Snakemake's rules, DVC's stages and the checkpoints of unfinished jobs all tell stale work from current by
these. A part is a dotted key of the preset, such as "guides.vit.train".
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ppap.graph.layout import Layout
from ppap.preset import DATASET, DIFFUSION, JUDGES, REFERENCE, Preset
from ppap.preset.runs import (
    WARM,
    ExpertJob,
    Run,
    all_runs,
    external_models,
    taught_guides,
    trained_models,
)


def values(preset: Preset, *parts: str) -> dict[str, Any]:
    """These parts of the preset, by their keys."""
    found = {}
    for part in sorted(set(parts)):
        value: Any = preset.plain
        for key in part.split("."):
            value = value[key]
        found[part] = value
    return found


def fingerprint(preset: Preset, *parts: str) -> str:
    """A short hash of these parts of the preset."""
    text = json.dumps(values(preset, *parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def of_model(preset: Preset, name: str) -> list[str]:
    """Of a network that the workflow trains."""
    return ["seed", "dataset", *_weights(preset, name)]


def of_external(preset: Preset, name: str) -> list[str]:
    """Of a network, or of data, that comes from elsewhere."""
    if name == DATASET:
        return ["dataset"]
    if name == REFERENCE:
        return ["evaluator.reference", "dataset.image_size"]
    return ["dataset.channels", "dataset.classes", *_weights(preset, name)]


def _weights(preset: Preset, name: str) -> list[str]:
    key = preset.key(name)
    if name == DIFFUSION:
        return [key]
    if preset.network(name) is None:  # Inception
        return [f"{key}.weights"]
    own = ("model", "options", "input_size", "mean", "std", "train", "weights")
    return [f"{key}.{part}" for part in own]


def of_clean_images(preset: Preset) -> list[str]:
    clean = preset.clean_images
    own = [f"clean_images.{part}" for part in ("count", "sampler", "seed", "shard_size")]
    sampler = [f"samplers.{clean.sampler}.{part}" for part in ("kind", "steps", "eta")]
    return ["seed", "dataset", "diffusion", *own, *sampler]


def of_labels() -> list[str]:
    return ["dataset", "clean_images.label_shards"]


def of_expert(expert: ExpertJob) -> list[str]:
    schedule = ["diffusion.noise_schedule", "diffusion.timesteps"]
    guide = [f"guides.{expert.guide}.{part}" for part in ("adapter", "experts")]
    method = [] if expert.part == WARM else [f"methods.{expert.method}"]
    return ["seed", "dataset", "experts", *schedule, *guide, *method]


def of_samples(run: Run) -> list[str]:
    own = [f"sampling.{part}" for part in ("samples", "seeds", "classes", "shard_size")]
    return [*own, f"samplers.{run.sampler}", f"methods.{run.method}"]


def of_metrics() -> list[str]:
    return ["evaluator.neighbours", "sampling.samples", "sampling.seeds"]


def of_tables() -> list[str]:
    return ["tables", "guides", "supervised"]


def of_figures() -> list[str]:
    return [*of_tables(), "figures"]


def phases(preset: Preset) -> dict[str, dict[str, Any]]:
    """For each phase of the workflow what its jobs depend on, and which jobs there are."""
    runs = all_runs(preset)
    taught = [run for run in runs if preset.methods[run.method].guidance == "experts"]
    experts = [ExpertJob(run.guide, run.method, "1") for run in taught]
    trained = {name: of_model(preset, name) for name in trained_models(preset)}
    external = {name: of_external(preset, name) for name in external_models(preset)}
    networks = (trained | external).items()
    parts = {
        "pretrain": [part for name, own in networks if name not in JUDGES for part in own],
        "judges": [part for name, own in networks if name in JUDGES for part in own],
        "generate": of_clean_images(preset),
        "label": of_labels(),
        "experts": [part for expert in experts for part in of_expert(expert)],
        "sample": [part for run in runs for part in of_samples(run)],
        "evaluate": ["dataset", *of_metrics()],
        "tables": of_figures(),
    }
    jobs = {
        "label": taught_guides(preset),
        "experts": sorted({f"{run.guide} {run.method}" for run in taught}),
        "sample": sorted(" ".join(run) for run in runs),
        "evaluate": sorted(" ".join(run) for run in runs),
    }
    return {
        phase: values(preset, *keys) | ({"jobs": jobs[phase]} if phase in jobs else {})
        for phase, keys in parts.items()
    }


def write_phases(layout: Layout) -> None:
    """Write what each phase depends on, for DVC: results/PRESET/phases/PHASE.json."""
    preset = layout.preset
    from ppap.storage import files  # needs torch, which the workflow's parsing does without

    for phase, found in phases(preset).items():
        files.write_json(layout.phase(phase), found, sort_keys=True)
