"""Speed of guided sampling: ours beside diffusers' DDIM loop, and the effect of each runtime option.

Same network, same number of steps, same batch, in one run; every line is a ratio to the first.
    python benchmarks/sampling.py [--preset config/digits.yaml] [--batch 250]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler

from ppap import preset as config
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import NoGuidance, NoisyInputGuidance
from ppap.diffusion.samplers import ddim
from ppap.diffusion.schedules import Schedule, ddim_timesteps
from ppap.experts import adapters
from ppap.graph.checkpoints import Checkpoint
from ppap.graph.layout import Layout
from ppap.networks import models, runtime
from ppap.networks.guide import Guide
from ppap.preset import Runtime
from ppap.sampling.batches import Drawing, draw
from ppap.seeds import balanced_classes
from ppap.tasks.classification import class_log_probability

STEPS = 25


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The best of a few runs, after one to warm up. On a CPU the time that its one thread worked."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="config/digits.yaml")
    parser.add_argument("--batch", type=int, default=250)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    preset = config.load(arguments.preset)
    size, channels = preset.dataset.image_size, preset.dataset.channels
    shape = (channels, size, size)
    spec = preset.diffusion
    kept = ddim_timesteps(spec.timesteps, STEPS)
    schedule = Schedule.respaced(spec.noise_schedule, spec.timesteps, kept)
    sampler = partial(ddim, eta=0.0)
    targets = balanced_classes(0, arguments.batch, list(range(preset.dataset.classes)))
    name, guide_spec = next(iter(preset.guides.items()))

    def guide_network(adapted: bool) -> Guide:
        guide = models.new_guide(Layout(preset), name)
        if adapted:
            adapters.attach(guide.network, guide_spec.adapter)
        return guide.eval().requires_grad_(False)

    def ours(options: Runtime, guide: Guide | None = None, channels_last: bool = False) -> float:
        network = models.new_diffusion(Layout(preset)).eval().requires_grad_(False)
        denoiser = Denoiser(runtime.place(network, options), schedule, spec.variance)
        device = runtime.device(options)
        if guide is not None:
            runtime.place(guide, options, channels_last)

        def guidance(y: torch.Tensor) -> NoGuidance | NoisyInputGuidance:
            if guide is None:
                return NoGuidance()
            return NoisyInputGuidance(lambda x, t: guide(x), class_log_probability(y), 4.0)

        with tempfile.TemporaryDirectory() as folder:
            shard = Drawing(
                "bench", [(0, i) for i in range(arguments.batch)], targets, shape, arguments.batch,
                Checkpoint(Path(folder) / "x", ""), 10**6,
            )  # fmt: skip
            with runtime.autocast(options):
                return seconds(lambda: draw(shard, denoiser, sampler, guidance, device))

    def peer(options: Runtime) -> float:
        network = models.new_diffusion(Layout(preset)).eval().requires_grad_(False)
        runtime.place(network, options)
        theirs: Any = DDIMScheduler(
            trained_betas=Schedule.create(spec.noise_schedule, spec.timesteps).betas
        )
        theirs.set_timesteps(STEPS)

        @torch.no_grad()
        def loop() -> None:
            x = torch.randn(arguments.batch, *shape, device=runtime.device(options))
            for t in theirs.timesteps:
                eps = network(x, t.repeat(len(x)).to(x.device))[:, :channels]
                x = theirs.step(eps, t, x).prev_sample

        return seconds(loop)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain = Runtime(device=device)
    base = peer(plain)
    print(
        f"{arguments.batch} images {size}x{size}, DDIM-{STEPS}, {device}, one CPU thread, torch {torch.__version__}"
    )
    print(
        f"{'diffusers DDIMScheduler, no guidance':<48} {arguments.batch / base:9.1f} images/s  1.00"
    )

    def show(title: str, taken: float) -> None:
        print(f"{title:<48} {arguments.batch / taken:9.1f} images/s  {base / taken:.2f}")

    show("ours, no guidance", ours(plain))
    show("ours, guided, merged weights", ours(plain, guide_network(False)))
    show("ours, guided, guide in channels_last", ours(plain, guide_network(False), True))
    show("ours, guided, adapters left unmerged", ours(plain, guide_network(True)))
    half = ({"precision": "bfloat16"}, {"precision": "float16"})
    for option in ({"channels_last": True}, *half, {"compile": True}):
        show(f"ours, no guidance, {option}", ours(plain.model_copy(update=option)))


if __name__ == "__main__":
    main()
