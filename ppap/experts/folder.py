"""Experts as a folder: a safetensors file for each, and a card that says what they are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from ppap.experts.expert import Expert, ExpertHeader, read_expert
from ppap.guides.guide import Guide
from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.files import Writer

CARD = "README.md"
_EXPERTS = "expert_*.safetensors"


def write_experts(experts: Sequence[Expert], folder: Path, guide: Guide) -> None:
    """Write all experts of a guide and the card, or nothing.

    DataError if the folder holds experts that would be left over.
    """
    names = [f"expert_{number}.safetensors" for number in range(1, len(experts) + 1)]
    left = sorted({path.name for path in folder.glob(_EXPERTS)} - {*names})
    if left:
        raise DataError(f"{folder / left[0]}: is of a larger bank; give an empty folder")
    writers: dict[Path, Writer] = {
        folder / name: files.tensors_writer(expert.tensors(), expert.header.metadata())
        for name, expert in zip(names, experts, strict=True)
    }
    files.write_all(writers | {folder / CARD: files.bytes_writer(card(experts, names, guide).encode())})


def read_experts(folder: Path) -> list[Expert]:
    """Read the experts of a folder, from the least noise to the most; DataError unless they own each timestep once."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    experts = sorted(map(read_expert, folder.glob(_EXPERTS)), key=lambda e: e.timesteps.start)
    if not experts:
        raise DataError(f"{folder}: has no experts ({_EXPERTS})")
    for one, other in itertools.pairwise(experts):
        if one.timesteps.stop != other.timesteps.start:
            raise DataError(
                f"{other.path}: begins at timestep {other.timesteps.start}, the expert before it ends at "
                f"{one.timesteps.stop}"
            )
        if _made_for(one) != _made_for(other):
            raise DataError(f"{other.path}: is of another bank than {one.path}")
    first, last = experts[0], experts[-1]
    if first.timesteps.start or last.timesteps.stop != last.header.timesteps:
        raise DataError(
            f"{folder}: its experts own timesteps {first.timesteps.start} to {last.timesteps.stop}, not 0 to "
            f"{last.header.timesteps}; some are missing"
        )
    return experts


def card(experts: Sequence[Expert], names: Sequence[str], guide: Guide) -> str:
    """Say in Markdown what a folder of experts holds, in files with these names, and how to build their guide."""
    header = experts[0].header
    learned = {
        "teacher": "the guide's own answers on drawn images (data-free distillation)",
        "labels": "what is true of real images",
        None: "not recorded",
    }[header.supervision]
    facts = {
        "Guide": f"`{header.guide}`",
        "Options": f"`{json.dumps(guide.options)}`" if guide.options else "none",
        "Input size": guide.input_size,
        "Resize": f"{guide.interpolation}{'' if guide.antialias else ', without antialiasing'}",
        "Mean, deviation": f"{guide.mean.flatten().tolist()}, {guide.std.flatten().tolist()}",
        "Task": header.task or "not recorded",
        "Experts": len(experts),
        "Timesteps of training": header.timesteps,
        "Noise schedule": header.noise_schedule,
        "Sees": about_sight(header),
        "Learned from": learned,
        "Parameters trained, an expert": f"{header.trainable_parameters:,} of {header.guide_parameters:,}",
        "Adapters": f"rank {header.rank}, scale {header.lora_scale:g}" if header.rank else "none",
    }
    lines = ["# Noise-aware experts of a guide (PPAP)", ""]
    lines += ["Load them with `ppap.load_experts(FOLDER, guide)`, where `guide` is the model below.", ""]
    lines += ["| | |", "|:--|:--|", *(f"| {name} | {value} |" for name, value in facts.items())]
    lines += ["", "| File | Timesteps | Log-SNR | Steps | Final loss | On held-out images | Guide's own there |"]
    lines += ["|:--|:--|:--|--:|--:|--:|--:|"]
    for name, expert in zip(names, experts, strict=True):
        own = expert.header
        timesteps = f"{own.range_start} to {own.range_stop - 1}"
        noise = "not recorded" if expert.log_snr is None else "{:.2f} to {:.2f}".format(*expert.log_snr)
        losses = [own.final_loss, own.held_out_loss, own.off_the_shelf_loss]
        cells = [timesteps, noise, own.steps or "", *("" if loss is None else f"{loss:.4g}" for loss in losses)]
        lines.append(f"| `{name}` | {' | '.join(map(str, cells))} |")
    lines += [f"\n`{n}` is worse than the guide itself." for n, e in zip(names, experts, strict=True) if e.header.worse]
    return "\n".join([*lines, ""])


def about_sight(header: ExpertHeader) -> str:
    """Say in words what experts look at."""
    seen = "the network's estimate of x_0" if header.sees == "x0_hat" else "x_t"
    if header.latents is None:
        return seen
    space = header.latents
    return f"{seen}, latents (scale {space.scale}, shift {space.shift}) by the view `{header.view}`"


def _made_for(expert: Expert) -> tuple[object, ...]:
    about = expert.header
    noise = about.timesteps, about.noise_schedule, about.sees, about.predicts
    return about.guide, about.guide_sha256, about.guide_state, *noise, about.view, about.latents
