"""Which parts of a preset decide what a job makes, beside the job's input files.

Snakemake's rules, DVC's stages and the checkpoints of unfinished jobs all tell stale work from current by
these. A part is a dotted key of the preset, such as "guides.vit.train".
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ppap.config import Config
from ppap.runs import WARM, ExpertJob, Layout, Run, all_runs, taught_guides, used_guides

SEEDS = ("sampling.samples", "sampling.seeds")


def values(config: Config, *parts: str) -> dict[str, Any]:
    """These parts of the preset, by their keys."""
    found = {}
    for part in sorted(set(parts)):
        value: Any = config.plain
        for key in part.split("."):
            value = value[key]
        found[part] = value
    return found


def fingerprint(config: Config, *parts: str) -> str:
    """A short hash of these parts of the preset."""
    text = json.dumps(values(config, *parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def of_model(name: str) -> list[str]:
    """Of a network that the workflow trains: `diffusion`, `evaluator` or a guide."""
    if name == "diffusion":
        return ["seed", "dataset", "diffusion"]
    key = name if name == "evaluator" else f"guides.{name}"
    own = ("model", "options", "input_size", "mean", "std", "train")
    return ["seed", "dataset", *(f"{key}.{part}" for part in own)]


def of_clean_images(config: Config) -> list[str]:
    clean = config.clean_images
    own = [f"clean_images.{part}" for part in ("count", "sampler", "seed", "shard_size")]
    sampler = [f"samplers.{clean.sampler}.{part}" for part in ("kind", "steps", "eta")]
    return ["seed", "dataset", "diffusion", *own, *sampler]


def of_expert(expert: ExpertJob) -> list[str]:
    schedule = ["diffusion.noise_schedule", "diffusion.timesteps"]
    guide = [f"guides.{expert.guide}.{part}" for part in ("adapter", "experts")]
    method = [] if expert.part == WARM else [f"methods.{expert.method}"]
    return ["seed", "dataset", "experts", *schedule, *guide, *method]


def of_samples(run: Run) -> list[str]:
    own = [f"sampling.{part}" for part in ("samples", "seeds", "classes", "shard_size")]
    return [*own, f"samplers.{run.sampler}", f"methods.{run.method}"]


def of_metrics() -> list[str]:
    return ["dataset", "evaluator.neighbours", *SEEDS]


def of_tables() -> list[str]:
    return ["tables", "guides", "figures"]


def phases(config: Config) -> dict[str, dict[str, Any]]:
    """For each phase of the workflow what its jobs depend on, and which jobs there are."""
    runs, guides = all_runs(config), used_guides(config)
    taught = [run for run in runs if config.methods[run.method].guidance == "experts"]
    experts = [ExpertJob(run.guide, run.method, "1") for run in taught]
    models = ("diffusion", "evaluator", *guides)
    parts = {
        "pretrain": [part for model in models for part in of_model(model)],
        "generate": of_clean_images(config),
        "label": ["dataset"],
        "experts": [part for expert in experts for part in of_expert(expert)],
        "sample": [part for run in runs for part in of_samples(run)],
        "evaluate": of_metrics(),
        "tables": of_tables(),
    }
    jobs = {
        "label": taught_guides(config),
        "experts": sorted({f"{run.guide} {run.method}" for run in taught}),
        "sample": sorted(" ".join(run) for run in runs),
        "evaluate": sorted(" ".join(run) for run in runs),
    }
    return {
        phase: values(config, *keys) | ({"jobs": jobs[phase]} if phase in jobs else {})
        for phase, keys in parts.items()
    }


def write_phases(config: Config, layout: Layout) -> None:
    """Write what each phase depends on, for DVC: results/PRESET/phases/PHASE.json."""
    from ppap import files  # needs torch, which the workflow's parsing does without

    for phase, found in phases(config).items():
        files.write_json(layout.phase(phase), found)
