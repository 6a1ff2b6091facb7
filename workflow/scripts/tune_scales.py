"""Print what each method of a table reaches at several guidance scales, on sampling seeds of their own.

    python workflow/scripts/tune_scales.py latents --scales 1 3 10 30 100 --seeds 1 2 --guides class --methods ppap_5

The preset must have been run once, at whatever scales (`snakemake --config preset=latents`). A method's best scale is
one that the preset's judges prefer: by FID, and by the first score of the guide's task.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from ppap.config import reading as presets
from ppap.config.runs import Run, known, table_runs
from ppap.data.loading import ImagesInMemory
from ppap.diffusion import sampling
from ppap.evaluation.features import class_statistics, features_of, picture_statistics
from ppap.evaluation.metrics import metrics_of
from ppap.utils import files
from ppap.utils.device import device_of
from ppap.utils.seeds import balanced_classes
from ppap.utils.tensor_spec import TARGET
from ppap.workflow import evaluator, networks, targets
from ppap.workflow.experts import goals_of
from ppap.workflow.layout import Layout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 3, 10, 30, 100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--samples", type=int, default=200, help="of each seed and scale")
    parser.add_argument("--table", default="main")
    parser.add_argument("--guides", nargs="+")
    parser.add_argument("--samplers", nargs="+")
    parser.add_argument("--methods", nargs="+")
    asked = parser.parse_args()
    layout = Layout(presets.load(presets.find(asked.preset)))
    chosen = {"samplers": asked.samplers, "guides": asked.guides, "methods": asked.methods}
    for kind, names in (("tables", [asked.table]), *chosen.items()):
        for name in names or ():
            known(layout.preset, kind, name)
    for run in table_runs(layout.preset, asked.table):
        wanted = all(names is None or name in names for name, names in zip(run, chosen.values(), strict=True))
        guidance = layout.preset.guidance(run.method)
        if wanted and guidance.guided and guidance.drawn:
            tune(layout, run, asked.scales, asked.seeds, asked.samples)


def tune(layout: Layout, run: Run, scales: list[float], seeds: list[int], samples: int) -> None:
    """Print a line for each scale: FID, and the scores of the task, the means over the seeds."""
    preset = layout.preset
    task, model = preset.task_of(run.guide), networks.load_model(layout)
    extract, reference = evaluator.load_extractor(layout), files.read_tensors(layout.reference)
    device, choices = device_of(preset.runtime), targets.choices(layout, run.guide)
    numbers = torch.cat([balanced_classes(seed, samples, choices) for seed in seeds])
    (goal,) = goals_of(layout, run, numbers)
    for scale in scales:
        images = sampling.sample(
            model,
            len(numbers),
            replace(goal, scale=scale),
            guidance=preset.guidance(run.method),
            **preset.drawing(run.sampler),
            seeds=[(seed, place) for seed in seeds for place in range(samples)],
            batch_size=preset.sampling.judged_at_once,
        )
        drawn = ImagesInMemory(images)
        features = features_of(drawn, extract, preset.sampling.judged_at_once, device)
        if preset.task(run.guide).of_pictures:
            judge = networks.load_guide(layout, str(preset.judge(run.guide)))
            known_targets = targets.read(layout, run.guide)[TARGET]
            statistics = picture_statistics(
                drawn, judge, task, known_targets, numbers, preset.sampling.judged_at_once, device
            )
        else:
            statistics = class_statistics(extract.classes(features), numbers)
        fids = [
            metrics_of({name: part.split(samples)[i] for name, part in features.items()}, reference, 3)["fid"]
            for i in range(len(seeds))
        ]
        scores = "  ".join(f"{name} {value:.4f}" for name, value in task.scored(statistics).items())
        print(
            f"{run.sampler}  {run.guide}  {run.method}  scale {scale:g}  FID {sum(fids) / len(fids):.2f}  {scores}",
            flush=True,
        )


if __name__ == "__main__":
    main()
