"""Keys that decide what the evaluator and judges say of images."""

from __future__ import annotations

from ppap.config.preset import Preset
from ppap.utils.settings import EVALUATOR
from ppap.workflow.reads.networks import data_keys, network_keys, task_key
from ppap.workflow.reads.sampling import shown_keys, target_keys


def judged_keys(preset: Preset, guide: str) -> list[str]:
    """The keys that comparing samples with a guide's targets reads."""
    keys = [*target_keys(preset, guide), *shown_keys(preset, guide)]
    if preset.task(guide).of_pictures:
        keys += [key for judge in preset.judges for key in task_key(preset, judge)]
    judge = preset.judge(guide)
    return keys + (network_keys(preset, judge) if judge else [])


def evaluator_keys(preset: Preset) -> list[str]:
    """The keys that the evaluator reads to judge images."""
    judge = preset.evaluator
    own = [f"{EVALUATOR}.kind", *(f"{EVALUATOR}.{key}" for key in judge.reads)]
    own += ["dataset.classes"] if judge.counts_classes else []
    return own + [key for name in judge.networks for key in network_keys(preset, name)]


def reference_data_keys(preset: Preset) -> list[str]:
    """The keys that reading the real images reads that samples are compared with."""
    return [] if preset.evaluator.compared_with else [*data_keys(preset), f"{EVALUATOR}.compared"]
