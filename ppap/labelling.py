"""A teacher's answers on the clean images, computed once for every image and its mirror image."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from ppap import datasets, files, models, runtime
from ppap.config import Config
from ppap.runs import Layout
from ppap.shards import ShardedImages


@torch.inference_mode()
def label(config: Config, layout: Layout, guide_name: str) -> None:
    """Write the guide's answers beside every shard: `image`, and `mirror` where a mirror image is valid."""
    guide = models.load_guide(config, layout, guide_name)
    device = runtime.device(config.runtime)
    shape = (config.dataset.image_size, config.dataset.image_size, config.dataset.channels)
    for index, size in enumerate(tqdm(layout.clean_sizes, f"labels of {guide_name}", unit="shard")):
        images = ShardedImages([layout.clean(index)], [size], shape)
        answers: dict[str, list[Tensor]] = {"image": [], "mirror": []}
        for chosen in torch.arange(size).split(config.clean_images.batch_size):
            batch = datasets.to_tensor(images.take(chosen)).to(device)
            with runtime.autocast(config.runtime):
                answers["image"].append(guide(batch).cpu())
                if config.dataset.mirror:
                    answers["mirror"].append(guide(batch.flip(-1)).cpu())
        files.write_tensors(
            layout.labels(guide_name, index), {k: torch.cat(v) for k, v in answers.items() if v}
        )
