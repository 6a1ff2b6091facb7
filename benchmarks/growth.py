"""Growth of time and memory with samples, experts, shards and jobs: per unit of work, relative to the first size.

    OMP_NUM_THREADS=1 python -m benchmarks.growth [--sizes 1 4 16] [--work samples experts shards jobs graph]

samples: the shards of a guided run, drawn one after another. experts: the training of each expert of a bank. shards:
a teacher's labels of clean images, and five steps a shard of an expert that learns from all of them. These are small networks
on the CPU, with weights that were hardly trained. jobs: all jobs of config/imagenet256.yaml, with their inputs and
fingerprints, where the tables have as many times the samples. graph: the same graph built by Snakemake
(`snakemake --rulegraph`).

Each line is a process of its own. CPU s is the time that the processor worked on it, imports left out, but for the
graph. MB is the process's peak, beside what it had before the work; both columns of ratios should be 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from ppap.config import reading as presets
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from ppap.workflow.steps.generate import Generate
from ppap.workflow.steps.label import Label
from ppap.workflow.steps.pretrain import Pretrain
from ppap.workflow.steps.sample import Sample
from ppap.workflow.steps.train_expert import TrainExpert

ROOT = Path(__file__).parent.parent
GUIDE, METHOD, SAMPLER = "resnet", "ppap_5", "ddim25"
PIXELS, SHARD, STEPS = 64, 200, 20
SNAKEMAKE = [str(Path(sys.executable).with_name("snakemake")), "--cores", "1", "--rulegraph"]


class Growth(NamedTuple):
    """Units of work, the seconds that they took of the processor, the process's peak and what it was before, in MB."""

    units: int
    seconds: float
    peak: float
    before: float


# -- the preset --------------------------------------------------------------------------------------


def small(size: int) -> dict[str, Any]:
    """digits, with one guide, networks that are hardly trained, and as many times the samples and experts."""
    preset = yaml.safe_load((ROOT / "config" / "digits.yaml").read_text())
    guide = preset["guides"][GUIDE]
    preset |= {"guides": {GUIDE: guide}, "samplers": {SAMPLER: preset["samplers"][SAMPLER]}}
    for trained in (preset["diffusion"], guide, preset["evaluator"]):
        trained["train"]["steps"] = 1
    experts = 4 * size
    guide["experts"]["steps"] = STEPS * experts
    preset["experts"]["warm_start"] = "none"
    preset["methods"] = {"naive": preset["methods"]["naive"], METHOD: preset["methods"][METHOD] | {"experts": experts}}
    grid = {"guides": [GUIDE], "samplers": [SAMPLER], "methods": [*preset["methods"]]}
    preset["tables"] = {"main": [grid]}
    preset["clean_images"] |= {"count": 100, "batch_size": 100, "shard_size": 100}
    preset["sampling"] |= {"samples": 200 * size, "seeds": [0], "batch_size": 50, "shard_size": 50}
    return preset


def paper(size: int) -> dict[str, Any]:
    """imagenet256 with as many times the samples."""
    preset = yaml.safe_load((ROOT / "config" / "imagenet256.yaml").read_text())
    preset["sampling"]["samples"] *= size
    return preset


def layout_of(folder: Path, content: dict[str, Any]) -> Layout:
    return Layout(presets.load(written(folder, content)), folder / "results", folder / "scratch")


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / f"{content['preset']}.{os.getpid()}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def prepare(folder: Path, size: int) -> Growth:
    """The networks, the clean images and the labels that all sizes share."""
    layout = layout_of(folder, small(size))
    made = [job for step in (Pretrain, Generate, Label) for job in step.jobs(layout)]
    return measured(len(made), lambda: run_all(layout, made))


# -- the work ----------------------------------------------------------------------------------------


def samples(folder: Path, size: int) -> Growth:
    layout = layout_of(folder, small(size))
    first, *jobs = (job for job in Sample.jobs(layout) if job.method == "naive")
    first.run(layout)  # not measured: the first of a process takes longer
    return measured(len(jobs), lambda: run_all(layout, jobs))


def experts(folder: Path, size: int) -> Growth:
    layout = layout_of(folder, small(size))
    first, *jobs = TrainExpert.jobs(layout)
    first.run(layout)
    return measured(len(jobs), lambda: run_all(layout, jobs))


def shards(folder: Path, size: int) -> Growth:
    """Measure 200 images of 64 pixels each."""
    count = 8 * size
    paths = [folder / f"shard_{number}.npy" for number in range(count)]
    random = np.random.default_rng(0)
    for path in paths:
        if not path.exists():
            np.save(path, random.integers(0, 256, (SHARD, PIXELS, PIXELS, 1), np.uint8))
    learn_from(folder, paths[:1])
    return measured(count, lambda: learn_from(folder, paths))


def learn_from(folder: Path, paths: list[Path]) -> None:
    """A teacher's answers on these shards, and an expert that learns them in five steps a shard."""
    import torch

    from ppap.data.shards import ShardedImages
    from ppap.experts.distillation import train_expert
    from ppap.experts.examples import AnsweredImages
    from ppap.experts.teacher import answers_on
    from ppap.training.loop import TrainingRun
    from ppap.workflow import networks as models

    layout = layout_of(folder, small(1))
    preset, guide = layout.preset, models.load_guide(layout, GUIDE)
    images = ShardedImages(paths, [SHARD] * len(paths), (PIXELS, PIXELS, 1))
    batches = torch.arange(len(images)).split(100)
    answers = answers_on(guide, images, batches, mirror=False, dtype=torch.float16)
    spec, schedule = preset.guides[GUIDE], preset.schedule(SAMPLER)
    train_expert(
        guide,
        AnsweredImages(images, answers, mirror=False),
        schedule=schedule,
        timesteps=range(len(schedule)),
        training=spec.experts.model_copy(update={"steps": 5 * len(paths), "batch_size": 64}),
        adapter=spec.adapter,
        settings=preset.experts,
        run=TrainingRun("expert", 0),
    )


def jobs(folder: Path, size: int) -> Growth:
    layout = layout_of(folder, paper(size))
    count = sum(1 for _ in all_jobs(layout))

    def listed() -> None:
        for job in all_jobs(layout):
            assert job.outputs(layout) and job.fingerprint(layout.preset)
            [str(path) for path in job.inputs(layout)]

    return measured(count, listed)


def graph(folder: Path, size: int) -> Growth:
    path = written(folder, paper(size))
    count = sum(1 for _ in all_jobs(Layout(presets.load(path))))
    command = [*SNAKEMAKE, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    done = subprocess.run([*command, "--config", f"preset={path}"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Growth(count, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, 0)


def run_all(layout: Layout, steps: Sequence[Step]) -> None:
    for job in steps:
        job.run(layout)


def measured(units: int, work: Callable[[], object]) -> Growth:
    before, start = peak(), time.process_time()
    work()
    return Growth(units, time.process_time() - start, peak(), before)


def peak() -> float:
    """Return the peak of this process's memory; getrusage's would count its parent's too."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


WORK = {work.__name__: work for work in (samples, experts, shards, jobs, graph)}


def in_a_process(kind: str, size: int, folder: Path) -> Growth:
    command = [sys.executable, __file__, "--one", kind, "--sizes", str(size), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{kind} {size}:\n{done.stderr[-2000:]}")
    return Growth(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        work = WORK.get(options.one, prepare)
        print(json.dumps(work(options.folder, options.sizes[0])))
        return
    print("work      size   units   CPU s  ms a unit  ratio  peak MB  before  ratio")
    with tempfile.TemporaryDirectory() as folder:
        in_a_process("prepare", 1, Path(folder))
        for kind in options.work:
            found = [in_a_process(kind, size, Path(folder)) for size in options.sizes]
            for size, one in zip(options.sizes, found, strict=True):
                each, memory = 1000 * one.seconds / one.units, one.peak / found[0].peak
                ratio = each * found[0].units / found[0].seconds / 1000
                print(
                    f"{kind:<8} {size:5} {one.units:7,} {one.seconds:7.2f} {each:10.2f} {ratio:6.2f} "
                    f"{one.peak:8.0f} {one.before:7.0f} {memory:6.2f}"
                )


if __name__ == "__main__":
    main()
