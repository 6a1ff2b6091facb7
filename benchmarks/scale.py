"""Full-size networks with random weights: seconds, images per second, memory and arithmetic of one step.

    python -m benchmarks.scale [--preset config/imagenet256.yaml] [--batch 1] [--precision float32 bfloat16]
                               [--work forward guided x0_gradient training] [--channels-last] [--compile]

forward: the diffusion network. guided: that, and the first guide's gradient on x_t. x0_gradient: the guide's
gradient through the diffusion network. training: one optimiser step of an expert's adapters, on random images.
On a CPU seconds are those that one thread worked, which other programs on the machine change little.
Divide TFLOP/s by the chip's printed matrix rate to get its share.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks import counted, ours
from benchmarks.setting import Setting, timed
from benchmarks.timing import Work, forget_peak, peak_memory, where
from ppap.config import reading as presets
from ppap.utils import mixed_precision
from ppap.utils.device import Runtime

METHODS = {"forward": "none", "guided": "off_the_shelf", "x0_gradient": "x0_gradient"}
TRAINING = "training"


def work_of(setting: Setting, kind: str, guide: str, held: bool) -> tuple[Work, int]:
    """The work, and the operations of a step of it."""
    if kind == TRAINING:
        return ours.training(setting, guide), counted.of_training(setting.preset, guide)
    method = METHODS[kind]
    flops = counted.of_drawing(setting.preset, method, guide)
    if kind == "forward":
        return ours.forward(setting, held), flops
    return ours.drawing(setting, method, guide, held), flops


def measure(setting: Setting, kind: str, repeats: int, held: bool) -> str:
    """A row of the table: the best step of a few, after one to warm up."""
    forget_peak(setting.device)
    guide = next(iter(setting.preset.guides))
    work, flops = work_of(setting, kind, guide, held)
    warm = 2 if setting.preset.runtime.compile else 1
    seconds = timed(setting, work, warm, steps=1, laps=repeats)
    memory, tflop = peak_memory(setting.device) / 1e9, setting.batch * flops / 1e12
    precision = str(mixed_precision.precision(setting.preset.runtime)).removeprefix("torch.")
    return (
        f"{kind:<12} {precision:<9} {setting.batch:5} {seconds:9.3f} {setting.batch / seconds:9.2f} "
        f"{memory:9.2f} {tflop:8.2f} {tflop / seconds:9.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="config/imagenet256.yaml")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    works = [*METHODS, TRAINING]
    parser.add_argument("--work", nargs="+", choices=works, default=works[:1])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cast-each-call", action="store_true", help="leave the weights in float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(presets.load(options.preset), options.batch)
    print(f"{setting.preset.preset}, {where(setting.device)}, torch {torch.__version__}")
    print("work         precision batch   seconds  images/s   GB peak    TFLOP   TFLOP/s")
    for kind in options.work:
        for precision in options.precision:
            how = Runtime(precision=precision, channels_last=options.channels_last, compile=options.compile)
            held = not options.cast_each_call
            print(measure(setting.running(how), kind, options.repeats, held), flush=True)


if __name__ == "__main__":
    main()
