"""The cost of a guided step of a latent diffusion model beside an unguided one, for each kind of guidance.

    python -m benchmarks.latents [--sizes miniature full] [--steps 2] [--threads 2]

miniature: the networks of config/latents.yaml, a batch of 50. full: those of Stable Diffusion 1.5 at 512 pixels (a
U-Net of 860 million parameters with classifier-free guidance, AutoencoderKL, ResNet50 at 224 pixels), one image. All
weights are random, float32. Each kind runs in a process of its own: seconds of a step, and the peak of memory above
the weights. An expert, merged, costs what its guide behind its view of latents costs. The full size takes 15 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import ppap
from ppap.config import reading as presets
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Clip
from ppap.guides.views import LinearView, look_through
from ppap.workflow import networks
from ppap.workflow.layout import Layout

KINDS = {  # guidance, and whether the guide has a linear view of latents
    "unguided": ("none", False),
    "expert, linear view of x_t": ("off_the_shelf", True),
    "expert, linear view of x0_hat": ("x0_estimate", True),
    "off the shelf, gradient through the decoder": ("x0_estimate", False),
    "off the shelf, gradient through decoder and network": ("x0_gradient", False),
}
BATCH = {"miniature": 50, "full": 1}


class Prompted(nn.Module):
    """A U-Net with classifier-free guidance: two networks' worth a call."""

    def __init__(self, unet: Callable[..., tuple[Tensor]]) -> None:
        super().__init__()
        self.unet, self.text = unet, torch.randn(2, 77, 768)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        empty, told = self.unet(torch.cat([x, x]), t.repeat(2), self.text, return_dict=False)[0].chunk(2)
        return empty + 7.5 * (told - empty)


def full() -> tuple[ppap.DiffusionModel, ppap.Guide]:
    """Stable Diffusion 1.5's networks and a ResNet50, with random weights."""
    import timm
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet: Any = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
    }
    kl: Any = AutoencoderKL(**blocks, layers_per_block=2, sample_size=512)
    autoencoder = Autoencoder(kl, 0.18215)
    network, schedule = Prompted(unet).eval().requires_grad_(False), ppap.Schedule.create("linear", 1000)
    model = ppap.DiffusionModel(network, (4, 64, 64), schedule, clip=Clip(None), autoencoder=autoencoder)
    return model, ppap.wrap_guide(timm.create_model("resnet50"), outputs=1000, image_size=512, input_size=224)


def miniature() -> tuple[ppap.DiffusionModel, ppap.Guide]:
    """The networks of the preset latents, untrained."""
    layout = Layout(presets.load(presets.find("latents")))
    network = networks.new_diffusion(layout).eval().requires_grad_(False)
    autoencoder = Autoencoder(networks.new_autoencoder(layout))
    shape, process = layout.preset.drawn_shape, networks.process(layout)
    model = ppap.DiffusionModel(network, shape, *process, autoencoder)
    return model, networks.new_guide(layout, "class").eval().requires_grad_(False)


def measure(size: str, kind: str, steps: int) -> dict[str, float]:
    """Seconds of a step, after one to warm up, and the peak of memory above that of the built networks, in GB."""
    guidance, viewed = KINDS[kind]
    model, guide = {"full": full, "miniature": miniature}[size]()
    if viewed:
        look_through(guide, LinearView(model.shape[0]))
    goals = [] if guidance == "none" else [ppap.Goal(guide, 1)]
    before = peak()

    def draw(steps: int) -> None:
        ppap.sample(model, BATCH[size], goals, guidance=guidance, steps=steps, batch_size=BATCH[size], decode=False)

    draw(1)
    start = time.perf_counter()
    draw(steps)
    return {"seconds": (time.perf_counter() - start) / steps, "memory": peak() - before}


def peak() -> float:
    """The most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=BATCH, default=[*BATCH])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kind", choices=KINDS, help="this one alone, in this process")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.kind:
        print(json.dumps(measure(asked.sizes[0], asked.kind, asked.steps)))
        return
    for size in asked.sizes:
        print(f"\n{size}, batch {BATCH[size]}, {asked.threads} threads, torch {torch.__version__}")
        print(f"{'step':<52} {'seconds':>8} {'of unguided':>12} {'GB above weights':>17}")
        free = None
        for kind in KINDS:
            command = [sys.executable, "-m", "benchmarks.latents", "--sizes", size, "--kind", kind]
            told = [*command, "--steps", str(asked.steps), "--threads", str(asked.threads)]
            found = json.loads(subprocess.run(told, check=True, capture_output=True, text=True).stdout)
            free = free or found["seconds"]
            ratio = found["seconds"] / free
            print(f"{kind:<52} {found['seconds']:8.3f} {ratio:12.2f} {found['memory']:17.2f}", flush=True)


if __name__ == "__main__":
    main()
