"""The prompts of a preset's images: read, and told to the diffusion model, where that draws by prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ppap.config.sections import PromptsConfig
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.sampling import Seeds
from ppap.utils import files
from ppap.utils.errors import ConfigError
from ppap.utils.seeds import balanced_prompts
from ppap.utils.settings import DIFFUSION
from ppap.workflow.layout import Layout

Images = Literal["clean_images", "sampling"]
"""The key of the images: clean ones, or samples."""
SECTIONS: tuple[Images, ...] = ("clean_images", "sampling")


def told(layout: Layout, images: Images, model: DiffusionModel, seeds: Seeds) -> DiffusionModel:
    """Tell a diffusion model the prompts of the images with these seeds; as it is if the preset has none.

    ConfigError, naming the key, for a model that takes none, or has none and needs them; DataError for a file of prompts
    that cannot be read.
    """
    spec = getattr(layout.preset, images).prompts
    if spec is None:
        return model
    texts = _texts(spec, f"{images}.prompts")
    each = texts[0] if len(texts) == 1 else [texts[number] for number in balanced_prompts(seeds, len(texts))]
    try:
        return model.prompted(each, negative_prompt=spec.negative, guidance_scale=spec.guidance_scale)
    except ConfigError as error:
        raise ConfigError(f"{images}.prompts: {str(error).removeprefix('prompts: ')}") from None


def check(layout: Layout, images: Images) -> None:
    """Raise ConfigError or DataError, as `told` does, as far as it is known before the diffusion model is downloaded."""
    spec, model = getattr(layout.preset, images).prompts, layout.preset.diffusion
    needed = model.source.told_of_prompts(model, layout.model(DIFFUSION))
    if spec is not None and needed is False:
        raise ConfigError("the diffusion model draws without prompts")
    if spec is None and needed:
        raise ConfigError("the diffusion model draws by prompts: give `file` or `text`")
    if spec is not None:
        _texts(spec, f"{images}.prompts")


def _texts(spec: PromptsConfig, key: str) -> list[str]:
    """Return the one prompt, or those of the file, in its order; DataError if that is not UTF-8, or has none."""
    file, text = spec.file, spec.text
    if text is not None or file is None:
        return [str(text)]
    return files.text_lines(Path(file), f"{key}.file", "prompt")
