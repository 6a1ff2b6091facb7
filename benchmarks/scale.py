"""Full-size networks with random weights: seconds, images per second, memory and arithmetic of one step.

    python benchmarks/scale.py [--preset config/imagenet256.yaml] [--batch 1] [--precision float32 bfloat16]
                               [--work forward guided x0_gradient training] [--channels-last] [--compile]

forward: the diffusion network. guided: that, and the first guide's gradient on x_t. x0_gradient: the guide's
gradient through the diffusion network. training: one optimiser step of an expert's adapters, on random images.
CPU s is the time that the processor worked, which other programs on the machine change little.
Arithmetic is counted by torch (2 for each multiply-add); divide TFLOP/s by the chip's printed matrix rate to
get its share.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from ppap import preset as config
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import NoisyInputGuidance, X0Gradient
from ppap.diffusion.schedules import Schedule
from ppap.experts import adapters
from ppap.graph.layout import Layout
from ppap.networks import models, runtime
from ppap.preset import DIFFUSION, Preset, Runtime
from ppap.tasks.classification import class_kl, class_log_probability

Work = Callable[[], object]


def denoiser_of(preset: Preset, held: bool) -> Denoiser:
    with torch.device("meta"):
        network = models.new_diffusion(Layout(preset))
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.02)
    spec = preset.diffusion
    schedule = Schedule.create(spec.noise_schedule, spec.timesteps)
    placed = runtime.place(network, preset.runtime)
    if held:
        runtime.hold_precision(placed, preset.runtime)
    return Denoiser(lambda x, t: placed(_inner(x), t), schedule, spec.variance)


def _inner(images: torch.Tensor) -> torch.Tensor:
    """The same images, as no leaf: torch's counter follows no gradient to a leaf that a module is given."""
    return images.clone() if images.requires_grad else images


def sampling_work(preset: Preset, kind: str, batch: int, held: bool) -> Work:
    denoiser, device = denoiser_of(preset, held), runtime.device(preset.runtime)
    size = preset.dataset.image_size
    x = torch.randn(batch, preset.dataset.channels, size, size, device=device)
    step = len(denoiser.schedule) // 2
    if kind == "forward":

        def forward() -> None:
            with torch.inference_mode():
                denoiser(x, step)

        return forward
    guide = models.new_guide(Layout(preset), next(iter(preset.guides))).eval().requires_grad_(False)
    runtime.place(guide, preset.runtime)
    objective = class_log_probability(torch.zeros(batch, dtype=torch.int64, device=device))
    way = X0Gradient if kind == "x0_gradient" else NoisyInputGuidance
    guidance = way(lambda images, timestep: guide(_inner(images)), objective, 7.5)
    return lambda: guidance(denoiser, x, step)


def training_work(preset: Preset, batch: int) -> Work:
    device = runtime.device(preset.runtime)
    name, spec = next(iter(preset.guides.items()))
    guide = models.new_guide(Layout(preset), name).train()
    adapters.attach(guide.network, spec.adapter)
    runtime.place(guide, preset.runtime)
    trained = [p for p in guide.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, spec.experts.learning_rate, fused=True)
    size = preset.dataset.image_size
    images = torch.randn(batch, preset.dataset.channels, size, size, device=device)
    answers = torch.randn(batch, preset.dataset.classes, device=device)

    def step() -> None:
        class_kl(guide(images), answers).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(preset: Preset, kind: str, batch: int, repeats: int, held: bool) -> str:
    """A row of the table: the best time of a few runs, after one that is counted and warms up."""
    work = (
        training_work(preset, batch)
        if kind == "training"
        else sampling_work(preset, kind, batch, held)
    )
    times, busy, cuda = [], [], runtime.device(preset.runtime).type == "cuda"
    with runtime.autocast(preset.runtime):
        with FlopCounterMode(display=False) as counter:
            work()
        if preset.runtime.compile:
            work()  # compiles it: nothing is compiled under the counter
        for _ in range(repeats):
            start, worked = time.perf_counter(), time.process_time()
            work()
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
            busy.append(time.process_time() - worked)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = (torch.cuda.max_memory_allocated() if cuda else own) / 1e9
    flops = counter.get_total_flops() / 1e12
    seconds = min(times)
    return (
        f"{kind:<12} {preset.runtime.precision:<9} {batch:5} {seconds:9.3f} {min(busy):9.3f} {batch / seconds:9.2f} "
        f"{memory:9.2f} {flops:8.2f} {flops / seconds:9.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="config/imagenet256.yaml")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    works = ["forward", "guided", "x0_gradient", "training"]
    parser.add_argument("--work", nargs="+", choices=works, default=works[:1])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument(
        "--cast-each-call", action="store_true", help="leave the weights in float32"
    )
    options = parser.parse_args()
    preset = config.load(options.preset)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{preset.preset} {DIFFUSION}, {where}, {torch.get_num_threads()} CPU threads")
    print("work         precision batch   seconds     CPU s  images/s   GB peak    TFLOP   TFLOP/s")
    for kind in options.work:
        for precision in options.precision:
            how = Runtime(
                precision=precision, channels_last=options.channels_last, compile=options.compile
            )
            chosen = preset.model_copy(update={"runtime": how})
            held = not options.cast_each_call
            print(measure(chosen, kind, options.batch, options.repeats, held), flush=True)


if __name__ == "__main__":
    main()
