"""The rehearsal of a preset: its whole graph and its real networks at full size, with random weights and tiny counts.

    python workflow/scripts/rehearsal.py PRESET

writes scratch/rehearsal_PRESET: a preset that differs in counts, places, resources and precision alone, and beside it
what that names, in the publishers' own formats: checkpoints of ADM and GLIDE (float16), Stable Diffusions, weights of
torchvision, timm and transformers, torch-fidelity's Inception weights, a reference batch of ADM's evaluator, an
ImageNet folder with one picture a class, and pictures. Files that exist are kept. The figures mean nothing.
"""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
import yaml
from PIL import Image
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import models

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.networks.glide import Networks
from ppap.utils import files
from ppap.utils.settings import DEPTH

CLASSES, REFERENCES, FEATURES = 1000, 8, 2048
RESOURCES = {
    # one job of drawing at a time on two cores
    **{step: {"mem_mb": 16000, "threads": 2} for step in ("generate", "upsample", "sample", "figure")},
    **{step: {"mem_mb": 8000} for step in ("download", "label", "train_expert", "features", "metrics")},
}


def main(name: str) -> None:
    """Write what is missing, and print the preset's path."""
    source = presets.find(name)
    folder = Path("scratch") / f"rehearsal_{presets.load(source).name}"
    path = folder / f"{folder.name}.yaml"
    small = rehearsed(yaml.safe_load(source.read_text()), source.parent.resolve())
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(small, sort_keys=False))
    preset = presets.load(path)
    torch.manual_seed(0)
    for part in named(preset):
        if not part.exists():
            MAKERS[part.name](part, preset)
    print(path)


def rehearsed(preset: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the preset of `folder` with tiny counts, whose weights and pictures lie beside it."""
    small = copy.deepcopy(preset)
    small["preset"] = f"rehearsal_{preset['preset']}"
    small["resources"] = RESOURCES
    small["runtime"]["precision"] = "auto"  # bfloat16, if this machine has arithmetic for it
    small["clean_images"] |= {"count": 2, "batch_size": 1, "shard_size": 1, "label_shards": 1, "estimates": 5}
    small["sampling"] |= {"samples": 2, "batch_size": 1, "shard_size": 2}
    small["figures"] |= {"timesteps": [520], "samples": 1, "images": 2}
    small["evaluator"]["neighbours"] = 1
    if "classes" in small["sampling"]:
        small["sampling"]["classes"] = small["sampling"]["classes"][:2]
    if "path" in small["dataset"]:
        small["dataset"]["path"] = "imagenet"
    if "pipeline" in small["diffusion"]:
        small["diffusion"]["pipeline"] = f"./{small['diffusion']['pipeline'].rpartition('/')[2]}"
    for sampler in small["samplers"].values():
        sampler["steps"] = 2
    if upsampling := small["diffusion"].get("glide", {}).get("upsampling"):
        upsampling |= {"steps": 2, "batch_size": 1}
    for guide in small["guides"].values():
        guide["experts"] |= {"steps": 10, "batch_size": 2}
        if "folder" in guide.get("targets", {}):
            guide["targets"]["folder"] = "pictures"
    place_weights(small)
    for section in (small["clean_images"], small["sampling"]):
        if "file" in section.get("prompts", {}):
            section["prompts"]["file"] = str(folder / section["prompts"]["file"])
    return small


def place_weights(small: dict[str, Any]) -> None:
    """Have a preset take all weights of others from files beside it."""
    judge = small["evaluator"]
    for download in downloads(small["diffusion"]):
        download["url"] = download["url"].rpartition("/")[2]
        download.pop("file", None)
    judge["weights"] = {"url": "inception.pth"}
    folder = "folder" in judge["reference"]
    judge["reference"] = {"folder": "pictures"} if folder else {"archive": {"url": "reference.npz"}}
    classifiers = [judge["classifier"]] if "classifier" in judge else []
    for spec in (*small["guides"].values(), *small.get("judges", {}).values(), *classifiers):
        library, _, model = spec["model"].partition(":")
        if library == "transformers":
            spec["model"] = f"transformers:./{model.rpartition('/')[2]}"
        else:
            spec["weights"] = {"url": f"{model.partition('/')[0]}.pth"}


def downloads(section: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parts of a section that name a file of others."""
    if "url" in section:
        yield section
    for part in section.values():
        if isinstance(part, dict):
            yield from downloads(part)


def named(preset: Preset) -> list[Path]:
    """List the files and folders that a preset names by their paths."""
    paths = [source.local for source in preset.files.values()]
    paths += [Path(guide.targets.folder) for guide in preset.guides.values() if guide.targets.folder]
    models = (spec.model.partition(":") for spec in preset.networks.values())
    paths += [Path(name) for library, _, name in models if library == "transformers"]
    given = (preset.dataset.path, preset.diffusion.pipeline, getattr(preset.evaluator.compared_with, "folder", None))
    paths += [Path(path) for path in given if path]
    return list(dict.fromkeys(path for path in paths if path is not None))


def save(path: Path, state: object) -> None:
    files.write_all({path: lambda draft: torch.save(state, draft)})


def adm(path: Path, preset: Preset) -> None:
    """Write the U-Net with a last layer that says something, unlike a new one's."""
    network = ADM(ADMArchitecture())
    last = network.out[2]
    assert isinstance(last, nn.Conv2d)
    nn.init.normal_(last.weight, std=0.01)
    save(path, {name: value.half() for name, value in network.state_dict().items()})


def glide(path: Path, preset: Preset) -> None:
    """Write a checkpoint of GLIDE's base or upsampler."""
    section = preset.diffusion.glide
    assert section is not None
    arch = section.base_architecture if path.stem == "base" else section.upsampler_architecture
    beside = 0 if path.stem == "base" else arch.in_channels
    with torch.device("meta"):
        spec = Networks.new(arch, section.text, beside=beside).spec
    save(path, {name: random_weight(name, one.shape) for name, one in spec.items()})


def random_weight(name: str, shape: tuple[int | str, ...]) -> torch.Tensor:
    """Draw in half precision: small numbers, about 1 for the factors of norms."""
    random = 0.02 * torch.randn([int(n) for n in shape])
    return (random + (random.ndim == 1 and name.endswith("weight"))).half()


def stable_diffusion(path: Path, preset: Preset) -> None:
    """Write a Stable Diffusion 1.5."""
    import diffusers
    from transformers import CLIPTextModel

    parts: Any = diffusers  # whose classes are untyped
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    pipeline = parts.StableDiffusionPipeline(
        autoencoder(sample_size=512),
        text_encoder(CLIPTextModel, 768, layers=12),
        tokenizer(),
        parts.UNet2DConditionModel(sample_size=64, cross_attention_dim=768).half(),
        parts.DDIMScheduler(**noise, clip_sample=False, set_alpha_to_one=False),
        None, None, None, requires_safety_checker=False,
    )  # fmt: skip
    finished(path, pipeline.save_pretrained)


def stable_diffusion_3(path: Path, preset: Preset) -> None:
    """Write a Stable Diffusion 3 medium without T5, which its pipeline does without."""
    import diffusers
    from transformers import CLIPTextModelWithProjection

    parts: Any = diffusers
    transformer = parts.SD3Transformer2DModel(
        num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=192
    ).half()
    latents = {"latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609}
    pipeline = parts.StableDiffusion3Pipeline(
        transformer,
        parts.FlowMatchEulerDiscreteScheduler(shift=3.0),
        autoencoder(sample_size=1024, **latents, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder(CLIPTextModelWithProjection, 768, layers=12),
        tokenizer(),
        text_encoder(CLIPTextModelWithProjection, 1280, layers=32),
        tokenizer(),
        None, None,
    )  # fmt: skip
    finished(path, pipeline.save_pretrained)


def autoencoder(**about: Any) -> Any:
    """Make an autoencoder of Stable Diffusion's size, of a factor of 8."""
    import diffusers

    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    parts: Any = diffusers
    return parts.AutoencoderKL(**levels, block_out_channels=(128, 256, 512, 512), layers_per_block=2, **about).half()


def text_encoder(kind: Any, width: int, layers: int) -> Any:
    """Make a text encoder of CLIP or OpenCLIP, with heads of 64."""
    from transformers import CLIPTextConfig

    sizes: Any = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": width}
    return kind(CLIPTextConfig(**sizes, num_hidden_layers=layers, num_attention_heads=width // 64)).half()


def tokenizer() -> Any:
    """Make a tokenizer that knows letters."""
    from transformers import CLIPTokenizer

    letters = [chr(ord("a") + i) for i in range(26)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)


def transformer(path: Path, preset: Preset) -> None:
    """Write a folder of transformers with the configuration that the preset states."""
    import transformers

    spec = next(s for s in preset.networks.values() if Path(s.model.partition(":")[2]) == path)
    side = spec.input_size or 0
    depth = getattr(spec, "task", None) == DEPTH
    kind: Any = transformers.AutoModelForDepthEstimation if depth else transformers.AutoModel
    own: Any = transformers.DPTImageProcessor if depth else transformers.CLIPImageProcessor
    size = {"size": {"height": side, "width": side}, "crop_size": {"height": side, "width": side}}

    def write(folder: Path) -> None:
        kind.from_config(transformers.AutoConfig.for_model(**spec.options)).save_pretrained(folder)
        own(**size, image_mean=spec.mean, image_std=spec.std).save_pretrained(folder)

    finished(path, write)


def finished(path: Path, write: Callable[[Path], object]) -> None:
    """Write a folder, which is there once it is whole."""
    unfinished = path.with_suffix(".part")
    write(unfinished)
    unfinished.rename(path)


def weights(path: Path, preset: Preset) -> None:
    """Write the weights of a model of torchvision."""
    # else the activations of 152 random layers leave the range of float16
    options: dict[str, Any] = {"zero_init_residual": True} if path.stem.startswith("resnet") else {}
    if path.stem in ("deeplabv3_resnet50", "fcn_resnet101"):  # whose files have an auxiliary head
        options = {"weights_backbone": None, "num_classes": 21, "aux_loss": True}
    save(path, models.get_model(path.stem, weights=None, **options).state_dict())


def deit(path: Path, preset: Preset) -> None:
    save(path, {"model": timm.create_model("deit_small_patch16_224").state_dict()})


def inception() -> nn.Module:
    """Make torch-fidelity's network, whose features tell images apart; making one otherwise loads its weights."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=nothing)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


def reference(path: Path, preset: Preset) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (REFERENCES, 256, 256, 3), dtype=np.uint8)
    files.write_arrays(path, arr_0=images, mu=np.zeros(FEATURES), sigma=np.eye(FEATURES))


def imagenet(folder: Path, preset: Preset) -> None:
    """Write one picture into each of a thousand folders with names like synsets."""
    random = np.random.default_rng(0)
    for i in range(CLASSES):
        picture(folder / f"n{i:08d}" / "picture.JPEG", random)


def pictures(folder: Path, preset: Preset) -> None:
    """Write some pictures to take targets from, or to compare samples with."""
    random = np.random.default_rng(0)
    for i in range(REFERENCES):
        picture(folder / f"{i}.png", random)


def picture(path: Path, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(small).resize((320, 280)).save(path)


MAKERS: dict[str, Callable[[Path, Preset], None]] = {
    "256x256_diffusion_uncond.pt": adm,
    "base.pt": glide,
    "upsample.pt": glide,
    "stable-diffusion-v1-5": stable_diffusion,
    "stable-diffusion-3-medium-diffusers": stable_diffusion_3,
    "deit_small_patch16_224.pth": deit,
    "inception.pth": lambda path, preset: save(path, inception().state_dict()),
    "reference.npz": reference,
    "imagenet": imagenet,
    "pictures": pictures,
    **dict.fromkeys(
        ("dpt-hybrid-midas", "dpt-large", "clip-vit-base-patch32", "dinov2-base", "depth-anything-small-hf"),
        transformer,
    ),
    **dict.fromkeys(
        (
            f"{name}.pth"
            for name in ("resnet18", "resnet50", "resnet152", "convnext_base", "deeplabv3_resnet50", "fcn_resnet101")
        ),
        weights,
    ),
}


if __name__ == "__main__":
    main(sys.argv[1])
