"""Guided DDIM-25 and an expert's training step beside their peers, and the effect of each runtime option.

    python -m benchmarks.sampling [--preset config/digits.yaml] [--batch 100] [--laps 3] [--options ...]

The peers draw with the same networks, by as many calls of them: diffusers' DDIMPipeline with a guidance hook written by
hand, and a plain PyTorch loop as guided-diffusion has it. One run measures all; on a CPU one thread, and the time that
it worked.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from benchmarks import networks, ours, pipeline, plain
from benchmarks.setting import Setting, timed
from benchmarks.timing import Work, best_of, where
from ppap.config import reading as presets
from ppap.utils.device import Runtime

OPTIONS: dict[str, dict[str, object]] = {
    "channels_last": {"channels_last": True},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "compile": {"compile": True},
}


def of_diffusers(setting: Setting, guide: str | None, laps: int) -> float:
    """Seconds of a batch by diffusers' pipeline."""
    network = networks.new_diffusion(setting.preset)
    score = plain.new_score(setting, guide) if guide else None
    pipe = pipeline.new_pipeline(setting.preset, network, score)
    return best_of(lambda: pipeline.draw(pipe, setting.seeds), setting.device, laps)


def of_batch(setting: Setting, work: Work, laps: int) -> float:
    """Seconds of a batch by a loop."""
    return networks.STEPS * timed(setting, work, networks.STEPS, networks.STEPS, laps)


def show(title: str, rate: float, *peers: float) -> None:
    """A row: things a second, and that divided by what each peer does a second."""
    ratios = "".join(f"{rate / peer:18.2f}" for peer in peers)
    print(f"{title:<46} {rate:9.1f}{ratios}", flush=True)


def compare(setting: Setting, method: str, guide: str, laps: int) -> tuple[float, float]:
    """Show both peers and ours; return what the peers draw a second."""
    said = "no guidance" if method == "none" else f"guided by {guide}"
    drawn = partial(of_batch, setting, laps=laps)
    theirs = setting.batch / of_diffusers(setting, None if method == "none" else guide, laps)
    show(f"diffusers' DDIMPipeline, {said}", theirs, theirs)
    plainly = setting.batch / drawn(plain.drawing(setting, method, guide))
    show(f"plain PyTorch loop, {said}", plainly, theirs, plainly)
    mine = setting.batch / drawn(ours.drawing(setting, method, guide))
    show(f"ours, {said}", mine, theirs, plainly)
    return theirs, plainly


def compare_training(setting: Setting, guide: str, laps: int) -> None:
    """The same of an expert's training steps, beside the plain loop."""

    def steps_of(work: Work) -> float:
        return 1 / timed(setting, work, warm=3, steps=20, laps=laps)

    plainly = steps_of(plain.training(setting, guide))
    show(f"plain PyTorch loop, an expert of {guide}", plainly, plainly)
    show(f"ours, an expert of {guide}", steps_of(ours.training(setting, guide)), plainly)
    like_peers = ours.training(contiguous(setting), guide)
    show(f"ours, an expert of {guide}, contiguous", steps_of(like_peers), plainly)


def contiguous(setting: Setting) -> Setting:
    """With no guide in a memory layout of its own, as the peers have it."""
    preset = setting.preset
    guides = {name: spec.model_copy(update={"channels_last": False}) for name, spec in preset.guides.items()}
    return Setting(preset.model_copy(update={"guides": guides}), setting.batch)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="config/digits.yaml")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--laps", type=int, default=3, help="the best of so many is shown")
    parser.add_argument("--options", nargs="*", choices=OPTIONS, default=list(OPTIONS))
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plainly = Runtime(device=device)
    setting = Setting(presets.load(arguments.preset), arguments.batch).running(plainly)
    data, laps = setting.preset.dataset, arguments.laps
    guide = next(iter(setting.preset.guides))
    print(
        f"{setting.batch} images {data.image_size}x{data.image_size}, DDIM-{networks.STEPS}, "
        f"{where(setting.device)}, torch {torch.__version__}"
    )
    print(f"{'':<46} {'images/s':>9}  beside diffusers  beside plain loop")
    compare(setting, "none", guide, laps)
    peers = compare(setting, "off_the_shelf", guide, laps)
    ways = {"contiguous": contiguous(setting)}
    for name in arguments.options:
        ways[name] = setting.running(plainly.model_copy(update=OPTIONS[name]))
    for name, way in ways.items():
        taken = of_batch(way, ours.drawing(way, "off_the_shelf", guide), laps)
        show(f"ours, guided by {guide}, {name}", setting.batch / taken, *peers)
    size = setting.preset.guides[guide].experts.batch_size
    print(f"{'':<46} {'steps/s':>9}  beside plain loop")
    compare_training(Setting(setting.preset, size), guide, laps)


if __name__ == "__main__":
    main()
