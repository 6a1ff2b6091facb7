"""Small GLIDE checkpoints, a vocabulary and presets in the public formats, for tests."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from ppap.diffusion.networks.architectures import ADMArchitecture, TextArchitecture
from ppap.diffusion.networks.glide import Networks
from tests.conftest import IMAGENET

GOLDEN = Path(__file__).parent / "golden"
ARCHITECTURE = {
    "model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2],
    "head_channels": 16,
}  # fmt: skip
TEXT = {"context": 16, "width": 32, "layers": 2, "heads": 2}
STAGES = {"base": 0, "upsample": 3}
"""Names of golden files, and how many channels come in beside x_t."""

# Merges of GPT-2 that the golden prompts need, at their ranks there.
MERGES = {
    " a": 257, " w": 266, " o": 267, " c": 269, "an": 272, "or": 273, " of": 286, "ll": 297, "ld": 335,
    " off": 572, " cor": 1162, " &": 1222, "é": 2634, " oil": 3056, " dog": 3290, " photo": 4590,
    " 42": 5433, " dogs": 6844, "ö": 9101, " painting": 12036, "gi": 12397, "llo": 18798,
    "cats": 24619, "ör": 30570,
}  # fmt: skip


def golden(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"glide_{name}_tiny.safetensors")


def checkpoint(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """The golden weights, as in a public checkpoint."""
    found = golden(name).items()
    return {k.removeprefix("weight/"): v.to(dtype) for k, v in found if k.startswith("weight/")}


def tiny(name: str) -> Networks:
    """The golden networks."""
    networks = Networks.new(ADMArchitecture(**ARCHITECTURE), TextArchitecture(**TEXT), STAGES[name])
    networks.load(checkpoint(name))
    for network in networks:
        network.eval().requires_grad_(False)
    return networks


def save_vocabulary(path: Path) -> Path:
    """A part of GPT-2's vocabulary: all bytes in its order (printable ones first), and `MERGES`."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    ordered = printable + [byte for byte in range(256) if byte not in printable]
    ranks = {bytes([byte]): rank for rank, byte in enumerate(ordered)}
    ranks |= {token.encode(): rank for token, rank in MERGES.items()}
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    path.write_text("".join(lines))
    return path


def glide_section(folder: Path, dtype: torch.dtype = torch.float16, **changes: object) -> dict:
    """The section `diffusion` of a small GLIDE whose files this makes in a folder."""
    paths = {"base": folder / "base.pt", "upsampler": folder / "upsample.pt"}
    for path in paths.values():
        torch.save(checkpoint(path.stem, dtype), path)
    glide = {key: {"url": str(path)} for key, path in paths.items()}
    glide |= {"vocabulary": {"url": str(save_vocabulary(folder / "gpt2.tiktoken"))}}
    glide |= {"base_architecture": ARCHITECTURE, "upsampler_architecture": ARCHITECTURE, "text": TEXT}
    glide |= {"upsampling": {"image_size": 16, "steps": 5}}
    return {"noise_schedule": "cosine", "glide": glide | changes}


def glide_preset(preset_file, folder: Path, name: str = "preset.yaml", **changes: object) -> Path:
    """The imagenet256 preset with a small GLIDE of 4 and 16 pixels."""
    section = glide_section(folder, **changes)
    return preset_file(
        IMAGENET, name, diffusion=section, dataset__image_size=4, runtime={"device": "cpu"},
    )  # fmt: skip


def golden_keys(name: str) -> dict[str, list[int]]:
    return json.loads((GOLDEN / f"glide_{name}.keys.json").read_text())
