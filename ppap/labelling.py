"""A teacher's answers on the clean images, computed once for every image and its mirror image."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from ppap import datasets, files, models, runtime
from ppap.artefacts import IMAGE, MIRROR, labels_identity
from ppap.config import Config
from ppap.errors import ConfigError, NumericalError
from ppap.runs import Layout
from ppap.shards import clean_images


@torch.inference_mode()
def label(config: Config, layout: Layout, guide_name: str, part: int) -> None:
    """Write the guide's answers on some shards: `image`, and `mirror` where a mirror image is valid.

    In half precision, unless the preset says float32. NumericalError if an answer does not fit.
    """
    if not 0 <= part < len(layout.label_sizes):
        raise ConfigError(f"no part {part}: there are {len(layout.label_sizes)}, counted from 0")
    guide = models.load_guide(config, layout, guide_name)
    device = runtime.device(config.runtime)
    kept = torch.float32 if config.runtime.precision == "float32" else torch.float16
    clean = config.clean_images
    shards = range(len(layout.clean_sizes))[part * clean.label_shards :][: clean.label_shards]
    about = labels_identity(layout, guide_name, clean_images(config, layout, shards).firsts)
    answers: dict[str, list[Tensor]] = {IMAGE: [], MIRROR: []}
    for index in tqdm(shards, f"labels of {guide_name}", unit="shard"):
        images = clean_images(config, layout, range(index, index + 1))
        for chosen in torch.arange(len(images)).split(clean.batch_size):
            batch = datasets.to_tensor(torch.from_numpy(images.take(chosen)).to(device))
            with runtime.autocast(config.runtime):
                answers[IMAGE].append(guide(batch).to("cpu", kept))
                if config.dataset.mirror:
                    answers[MIRROR].append(guide(batch.flip(-1)).to("cpu", kept))
    found = {name: torch.cat(batches) for name, batches in answers.items() if batches}
    if not all(torch.isfinite(logits).all() for logits in found.values()):
        raise NumericalError(f"labels of {guide_name}: an answer is not finite in {kept}")
    files.write_tensors(layout.labels(guide_name, part), found, about)
